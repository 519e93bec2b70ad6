package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/durabletaskgo"
)

// importer stores bundles, in a server or in a database.
func (t *target) importer(ctx context.Context, f func(backend.InstanceImporter) error) error {
	if t.db == "" {
		return t.remote(ctx, func(c *client.TaskHubGrpcClient) error { return f(c) })
	}
	return ownDB(ctx, t.db, func(be backend.Backend) error { return f(be.(backend.InstanceImporter)) })
}

// exporter reads bundles, of a server or of a database.
func (t *target) exporter(ctx context.Context, f func(backend.InstanceExporter) error) error {
	if t.db == "" {
		return t.remote(ctx, func(c *client.TaskHubGrpcClient) error { return f(c) })
	}
	return t.read(ctx, func(r reader) error { return f(r.(dbReader)) })
}

func newExport() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "export ID...", Short: "Write instances, with their history, as JSON lines to standard output", Args: args(1, true),
		Long: `Write all that is stored of instances, a JSON line each, to standard output. With
'perdure import' they go on in another task hub: suspend or terminate those that
run first, or they go on in both.`,
		Example: "  perdure export order-17 > order-17.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.exporter(cmd.Context(), func(x backend.InstanceExporter) error {
				for _, id := range args {
					b, err := x.ExportInstance(cmd.Context(), api.InstanceID(id))
					if err != nil {
						return err
					}
					line, err := protojson.Marshal(b.Proto())
					if err != nil {
						return err
					}
					if _, err := cmd.OutOrStdout().Write(append(line, '\n')); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	t.flags(cmd)
	return cmd
}

func newImport() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Store what export wrote, or a task hub of durabletask-go", Args: args(1, false),
		Long: `Store the instances that 'perdure export' wrote; - reads standard input. They go on
at once. One whose id is taken is left out and reported.`,
		Example: "  perdure import order-17.jsonl\n  perdure import durabletask-go taskhub.sqlite3 --db perdure.db",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := o.open(cmd); err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usageError{err}
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				in = f
			}
			return t.importer(cmd.Context(), func(im backend.InstanceImporter) error {
				return importAll(cmd.Context(), o, im, func(f func(*api.InstanceBundle, error) error) error { return bundles(in, f) })
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	cmd.AddCommand(newImportDurableTask())
	return cmd
}

// maxBundle bounds a line of an export.
const maxBundle = 1 << 30

func bundles(in io.Reader, f func(*api.InstanceBundle, error) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), maxBundle)
	for n := 1; lines.Scan(); n++ {
		p := &protos.InstanceBundle{}
		if err := protojson.Unmarshal(lines.Bytes(), p); err != nil {
			return usageError{fmt.Errorf("line %d is no instance that export wrote: %w", n, err)}
		}
		if err := f(api.BundleFromProto(p), nil); err != nil {
			return err
		}
	}
	return lines.Err()
}

// importAll reports on each instance, and fails where one could not be stored.
func importAll(
	ctx context.Context, o output, im backend.InstanceImporter, all func(func(*api.InstanceBundle, error) error) error,
) error {
	n, taken, bad := 0, 0, 0
	var first error
	err := rows(o, outcomeColumns, func(f func(outcome) error) error {
		return all(func(b *api.InstanceBundle, err error) error {
			if err == nil {
				err = im.ImportInstance(ctx, b)
			}
			out := outcome{ID: string(b.Metadata.InstanceID), Done: "imported", Note: api.StatusName(b.Metadata.RuntimeStatus)}
			switch n++; {
			case ctx.Err() != nil || exitCode(err) == exitUnreachable:
				return errors.Join(err, ctx.Err())
			case errors.Is(err, backend.ErrDuplicateEvent):
				taken++
				out.Done, out.Note = "skipped", "its id is taken"
			case err != nil:
				if bad++; first == nil {
					first = err
				}
				out.Done, out.Note, out.Error = "", "", err.Error()
			}
			return f(out)
		})
	})
	switch {
	case err != nil:
		return err
	case bad > 0:
		return fmt.Errorf("%d of %d instances could not be imported; the first: %w", bad, n, first)
	}
	return nil
}

func newImportDurableTask() *cobra.Command {
	var t target
	var o output
	var force, dry bool
	cmd := &cobra.Command{
		Use: "durabletask-go FILE|URL", Short: "Bring the task hub of a durabletask-go process here", Args: args(1, false),
		Long: `Bring all instances of a task hub of durabletask-go 0.2 to 0.6, a SQLite file or a
PostgreSQL database, into this one, where they go on: their histories, waiting
events, timers and open activities. The old hub is only read; stop its process first.
The code goes on with a change of import path. Run it again to continue: what is here is skipped.`,
		Example: "  perdure import durabletask-go taskhub.sqlite3 --db perdure.db\n" +
			"  perdure import durabletask-go postgres://app@db/app --server 127.0.0.1:4001",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := o.open(cmd); err != nil {
				return err
			}
			ctx := cmd.Context()
			src, err := durabletaskgo.Open(ctx, args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, src.Close()) }()
			if owner, until, err := src.Owner(ctx); err != nil {
				return err
			} else if owner != "" && !force && !dry {
				return fmt.Errorf("%w: process %s has locked work until %s: stop it first, or add --force where it is gone",
					errUnconfirmed, plain(owner), stamp(until))
			}
			if orphans, err := src.Orphans(ctx); err != nil {
				return err
			} else if orphans > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d events for ids without an instance are left behind\n", orphans)
			}
			if dry {
				return importAll(ctx, o, nowhere{}, func(f func(*api.InstanceBundle, error) error) error { return src.Each(ctx, f) })
			}
			return t.importer(ctx, func(im backend.InstanceImporter) error {
				return importAll(ctx, o, im, func(f func(*api.InstanceBundle, error) error) error { return src.Each(ctx, f) })
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "do it although a process has locked work")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "read everything and store nothing")
	return cmd
}

// nowhere takes what a dry run reads.
type nowhere struct{}

func (nowhere) ImportInstance(context.Context, *api.InstanceBundle) error { return nil }
