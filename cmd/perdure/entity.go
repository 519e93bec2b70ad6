package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/client"
)

func newEntity() *cobra.Command {
	cmd := &cobra.Command{Use: "entity", Short: "Look at entities, and send them operations"}
	cmd.AddCommand(newEntityList(), newEntityGet(), newEntitySignal(), newEntityClean())
	return cmd
}

var entityColumns = []column[*api.EntityMetadata]{
	{"ID", func(m *api.EntityMetadata) string { return m.InstanceID.String() }},
	{"UPDATED", func(m *api.EntityMetadata) string { return stamp(m.LastModifiedTime) }},
	{"WAITING", func(m *api.EntityMetadata) string { return strconv.Itoa(int(m.BacklogQueueSize)) }},
	{"LOCKED BY", func(m *api.EntityMetadata) string { return m.LockedBy }},
	{"STATE", func(m *api.EntityMetadata) string { return short(m.SerializedState, 60) }},
}

// entityJSON is an entity as it is written as JSON.
type entityJSON struct {
	ID       string    `json:"id"`
	Updated  time.Time `json:"lastModified"`
	Waiting  int32     `json:"backlog"`
	LockedBy string    `json:"lockedBy,omitempty"`
	State    string    `json:"serializedState,omitempty"`
}

func asEntityJSON(m *api.EntityMetadata) entityJSON {
	return entityJSON{m.InstanceID.String(), m.LastModifiedTime, m.BacklogQueueSize, m.LockedBy, m.SerializedState}
}

func newEntityList() *cobra.Command {
	var t target
	var o output
	var prefix string
	var limit int
	var transient bool
	cmd := &cobra.Command{
		Use: "list", Short: "List entities", Args: noArgs,
		Example: "  perdure entity list --prefix @counter@",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				all := func(f func(*api.EntityMetadata) error) error {
					q := api.EntityQuery{InstanceIDStartsWith: prefix, IncludeState: true, IncludeTransient: transient, PageSize: 100}
					for n := 0; ; {
						page, err := c.QueryEntities(cmd.Context(), q)
						if err != nil {
							return err
						}
						for _, m := range page.Entities {
							if err := f(m); err != nil {
								return err
							}
							if n++; n == limit {
								return nil
							}
						}
						if q.ContinuationToken = page.ContinuationToken; q.ContinuationToken == "" {
							return nil
						}
					}
				}
				if o.format == "table" {
					return rows(o, entityColumns, all)
				}
				return rows(o, nil, func(f func(entityJSON) error) error {
					return all(func(m *api.EntityMetadata) error { return f(asEntityJSON(m)) })
				})
			})
		},
	}
	t.serverFlag(cmd)
	o.flags(cmd)
	cmd.Flags().StringVar(&prefix, "prefix", "", "whose id begins with this, such as @counter@")
	cmd.Flags().IntVar(&limit, "limit", 100, "show this many at most; 0 for all")
	cmd.Flags().BoolVar(&transient, "transient", false, "also those without a state")
	return cmd
}

func newEntityGet() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "get @NAME@KEY", Short: "Show an entity with its state", Args: args(1, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := api.EntityIDFromString(args[0])
			if err != nil {
				return err
			}
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				m, err := c.FetchEntityMetadata(cmd.Context(), id, true)
				if err != nil {
					return err
				}
				return record(o, asEntityJSON(m), [][2]string{
					{"id", m.InstanceID.String()}, {"updated", stamp(m.LastModifiedTime)},
					{"waiting", strconv.Itoa(int(m.BacklogQueueSize))}, {"locked by", m.LockedBy}, {"state", m.SerializedState},
				})
			})
		},
	}
	t.serverFlag(cmd)
	o.flags(cmd)
	return cmd
}

func newEntitySignal() *cobra.Command {
	var t target
	var input, at string
	var raw bool
	cmd := &cobra.Command{
		Use: "signal @NAME@KEY OPERATION", Short: "Send an operation to an entity, and do not wait for it", Args: args(2, false),
		Example: "  perdure entity signal @counter@clicks add --input 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := api.EntityIDFromString(args[0])
			if err != nil {
				return err
			}
			var opts []api.SignalEntityOptions
			if cmd.Flags().Changed("input") {
				text, err := payload(cmd, "input", input, raw)
				if err != nil {
					return err
				}
				opts = append(opts, api.WithRawSignalInput(text))
			}
			if at != "" {
				due, err := when("at", at, time.Now().Add)
				if err != nil {
					return err
				}
				opts = append(opts, api.WithSignalScheduledTime(due))
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				if err := c.SignalEntity(cmd.Context(), id, args[1], opts...); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "sent %s to %s\n", plain(args[1]), plain(id.String()))
				return err
			})
		},
	}
	t.serverFlag(cmd)
	cmd.Flags().StringVar(&input, "input", "", "its input: JSON, @FILE, or - for standard input")
	cmd.Flags().BoolVar(&raw, "raw", false, "take the input as it is, whether JSON or not")
	cmd.Flags().StringVar(&at, "at", "", "deliver it at this time: RFC 3339, or in how long, such as 8h")
	return cmd
}

func newEntityClean() *cobra.Command {
	var t target
	var o output
	var yes bool
	cmd := &cobra.Command{
		Use: "clean", Short: "Remove entities without a state, and release locks whose holders are gone", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			if !yes {
				return errUnconfirmed
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				removed, released := 0, 0
				for req := (api.CleanEntityStorageRequest{RemoveEmptyEntities: true, ReleaseOrphanedLocks: true}); ; {
					r, err := c.CleanEntityStorage(cmd.Context(), req)
					if err != nil {
						return err
					}
					removed, released = removed+int(r.EmptyEntitiesRemoved), released+int(r.OrphanedLocksReleased)
					if req.ContinuationToken = r.ContinuationToken; req.ContinuationToken == "" {
						return record(o, map[string]int{"removed": removed, "released": released},
							[][2]string{{"removed", strconv.Itoa(removed)}, {"released", strconv.Itoa(released)}})
					}
				}
			})
		},
	}
	t.serverFlag(cmd)
	o.flags(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do it")
	return cmd
}
