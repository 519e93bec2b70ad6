package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

type startFlags struct {
	id, input, version, at string
	tags                   map[string]string
	raw, wait              bool
	timeout                time.Duration
}

func newStart() *cobra.Command {
	var t target
	var o output
	var f startFlags
	cmd := &cobra.Command{
		Use: "start ORCHESTRATOR", Short: "Start an instance, and show its id", Args: args(1, false),
		Example: "  perdure start order --id order-17 --input '{\"item\":\"tea\"}'\n" +
			"  perdure start report --input @report.json --at 8h --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options(cmd)
			if err := errors.Join(err, o.open(cmd)); err != nil {
				return err
			}
			return t.manage(cmd.Context(), func(c backend.Client) error {
				id, err := c.ScheduleNewOrchestration(cmd.Context(), args[0], opts...)
				if err != nil {
					return err
				}
				if f.wait {
					return waitFor(cmd.Context(), c, o, id, false, f.timeout)
				}
				return record(o, map[string]string{"id": string(id)}, [][2]string{{"id", string(id)}})
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.id, "id", "", "id of the instance; else a random one")
	fl.StringVar(&f.input, "input", "", "its input: JSON, @FILE, or - for standard input")
	fl.BoolVar(&f.raw, "raw", false, "take the input as it is, whether JSON or not")
	fl.StringVar(&f.version, "version", "", "version of the instance")
	fl.StringToStringVar(&f.tags, "tag", nil, "tags, as KEY=VALUE")
	fl.StringVar(&f.at, "at", "", "start at this time: RFC 3339, or in how long, such as 8h")
	fl.BoolVar(&f.wait, "wait", false, "wait until the instance is over, as the command wait does")
	fl.DurationVar(&f.timeout, "timeout", 0, "with --wait: give up after this time; 0 for never")
	return cmd
}

func (f *startFlags) options(cmd *cobra.Command) (opts []api.NewOrchestrationOptions, err error) {
	if f.id != "" {
		opts = append(opts, api.WithInstanceID(api.InstanceID(f.id)))
	}
	if cmd.Flags().Changed("input") {
		input, err := payload(cmd, "input", f.input, f.raw)
		if err != nil {
			return nil, err
		}
		opts = append(opts, api.WithRawInput(input))
	}
	if f.version != "" {
		opts = append(opts, api.WithVersion(f.version))
	}
	if len(f.tags) > 0 {
		opts = append(opts, api.WithTags(f.tags))
	}
	if f.at != "" {
		at, err := when("at", f.at, time.Now().Add)
		if err != nil {
			return nil, err
		}
		opts = append(opts, api.WithStartTime(at))
	}
	return opts, nil
}

// payload reads an argument that must be JSON unless it is raw.
func payload(cmd *cobra.Command, flag, value string, raw bool) (string, error) {
	text, err := argument(cmd.InOrStdin(), value)
	if err == nil && !raw && !json.Valid([]byte(text)) {
		err = usageError{fmt.Errorf("--%s is not JSON: %s\nput it in quotes for a JSON string, or add --raw", flag, short(text, 60))}
	}
	return text, err
}

func newRaise() *cobra.Command {
	var t target
	var data string
	var raw bool
	cmd := &cobra.Command{
		Use: "raise ID EVENT", Short: "Send an event to an instance", Args: args(2, false),
		Example: "  perdure raise order-17 approved --data '{\"by\":\"Ada\"}'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var opts any
			if cmd.Flags().Changed("data") {
				text, err := payload(cmd, "data", data, raw)
				if err != nil {
					return err
				}
				opts = api.WithRawEventData(text)
			}
			return t.manage(cmd.Context(), func(c backend.Client) error {
				if err := c.RaiseEvent(cmd.Context(), api.InstanceID(args[0]), args[1], opts); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "sent %s to %s\n", plain(args[1]), plain(strings.TrimSpace(args[0])))
				return err
			})
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVar(&data, "data", "", "its payload: JSON, @FILE, or - for standard input")
	cmd.Flags().BoolVar(&raw, "raw", false, "take the payload as it is, whether JSON or not")
	return cmd
}
