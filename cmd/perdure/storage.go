package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/postgres"
	"github.com/perdure/perdure/backend/sqlite"
)

// newStorage returns the commands that are about a database, not about a server.
func newStorage() []*cobra.Command {
	return []*cobra.Command{newBackup(), newRestore(), newVerify(), newMigrate()}
}

func isURL(db string) bool { return strings.Contains(db, "://") }

// fileOnly is the answer of commands that are about SQLite files.
func fileOnly(what string) error {
	return usageError{fmt.Errorf("%s is for SQLite files: PostgreSQL has tools of its own, such as pg_dump, which take all tables of the hub's schema at one moment", what)}
}

func dbFlag(cmd *cobra.Command, db *string) {
	cmd.Flags().StringVar(db, "db", "./perdure.db", "the database: a SQLite file or a postgres:// URL")
}

func newBackup() *cobra.Command {
	var db string
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Copy a task hub while it is at work", Args: args(1, false),
		Long: `Write the task hub of a SQLite file into a new file, as it is at one moment, while a
server goes on with it. All that was acknowledged before is in it.`,
		Example: "  perdure backup backups/perdure-monday.db",
		RunE: func(cmd *cobra.Command, args []string) error {
			if isURL(db) {
				return fileOnly("backup")
			}
			if err := sqlite.Backup(cmd.Context(), db, args[0]); err != nil {
				return err
			}
			return verify(cmd, args[0], output{format: "table", w: cmd.OutOrStdout()})
		},
	}
	dbFlag(cmd, &db)
	return cmd
}

func newRestore() *cobra.Command {
	var db string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup where there is no task hub", Args: args(1, false),
		Long: `Put a backup in the place of a task hub. It replaces nothing: move what is there away
first, with its -wal and -shm files.`,
		Example: "  perdure restore backups/perdure-monday.db --db perdure.db",
		RunE: func(cmd *cobra.Command, args []string) error {
			if isURL(db) {
				return fileOnly("restore")
			}
			if err := sqlite.Restore(cmd.Context(), args[0], db); err != nil {
				return err
			}
			return verify(cmd, db, output{format: "table", w: cmd.OutOrStdout()})
		},
	}
	dbFlag(cmd, &db)
	return cmd
}

func newVerify() *cobra.Command {
	var db string
	var o output
	cmd := &cobra.Command{
		Use: "verify", Short: "Read a whole database and check that each instance can go on from it", Args: noArgs,
		Long: `Read a whole database and check that each instance can go on from it: its pages and
indexes where it is a SQLite file, and each row, history and inbox. A server may go on
meanwhile. The exit code is 1 where a fault was found.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return verify(cmd, db, o)
		},
	}
	dbFlag(cmd, &db)
	o.flags(cmd)
	return cmd
}

// verify reports on a database; what it finds is an error at the end.
func verify(cmd *cobra.Command, db string, o output) (err error) {
	ctx := cmd.Context()
	if !isURL(db) {
		if err := sqlite.Check(ctx, db); err != nil {
			return err
		}
	}
	r, err := openReader(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum, err := r.VerifyHub(ctx, func(id api.InstanceID, fault string) error {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", plain(string(id)), plain(fault))
		return err
	})
	if err != nil {
		return err
	}
	n := func(v int) string { return fmt.Sprint(v) }
	if err := record(o, sum, [][2]string{
		{"instances", n(sum.Instances)}, {"events", n(sum.Events)}, {"messages", n(sum.Messages)},
		{"stalled", n(sum.Stalled)}, {"faults", n(sum.Faults)},
	}); err != nil {
		return err
	}
	if sum.Faults > 0 {
		return fmt.Errorf("%s has %d faults", db, sum.Faults)
	}
	return nil
}

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Look after the schema of a database"}
	cmd.AddCommand(
		migration("status", "Show the version of the schema, and that of this program", func(cmd *cobra.Command, o output, db string) error {
			return showVersion(cmd.Context(), o, db)
		}),
		migration("plan", "Show the statements that would bring the schema up to date", showPlan),
		migration("up", "Bring the schema up to date; a server does the same when it starts", func(cmd *cobra.Command, o output, db string) error {
			if version, _, err := schemaVersion(cmd.Context(), db); err != nil {
				return err
			} else if version == 0 {
				return fmt.Errorf("%s: %w", db, backend.ErrTaskHubNotFound)
			}
			if err := ownDB(cmd.Context(), db, func(backend.Backend) error { return nil }); err != nil {
				return err
			}
			return showVersion(cmd.Context(), o, db)
		}))
	return cmd
}

func migration(use, short string, f func(*cobra.Command, output, string) error) *cobra.Command {
	var db string
	var o output
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return f(cmd, o, db)
		},
	}
	dbFlag(cmd, &db)
	o.flags(cmd)
	return cmd
}

func schemaVersion(ctx context.Context, db string) (version, latest int64, err error) {
	if !isURL(db) {
		return sqlite.SchemaVersion(ctx, db)
	}
	opts, err := postgres.NewPostgresOptionsFromURL(db)
	if err != nil {
		return 0, 0, usageError{fmt.Errorf("--db: %w", err)}
	}
	return postgres.SchemaVersion(ctx, opts)
}

func showVersion(ctx context.Context, o output, db string) error {
	version, latest, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	state := "up to date"
	switch {
	case version == 0:
		state = "no task hub"
	case version < latest:
		state = "to be migrated"
	case version > latest:
		state = "newer than this program"
	}
	return record(o, map[string]any{"version": version, "latest": latest, "state": state}, [][2]string{
		{"version", fmt.Sprint(version)}, {"latest", fmt.Sprint(latest)}, {"state", state},
	})
}

// step is a migration that a database lacks.
type step struct {
	Version int64  `json:"version"`
	SQL     string `json:"sql"`
}

func showPlan(cmd *cobra.Command, o output, db string) error {
	version, _, err := schemaVersion(cmd.Context(), db)
	if err != nil {
		return err
	}
	all, err := sqlite.Migrations()
	if isURL(db) {
		opts, perr := postgres.NewPostgresOptionsFromURL(db)
		if perr != nil {
			return usageError{fmt.Errorf("--db: %w", perr)}
		}
		all, err = postgres.Migrations(opts)
	}
	if err != nil {
		return err
	}
	return rows(o, []column[step]{
		{"VERSION", func(s step) string { return fmt.Sprint(s.Version) }}, {"STATEMENTS", func(s step) string { return s.SQL }},
	}, func(f func(step) error) error {
		for n, sql := range all {
			if v := int64(n + 1); v > version {
				if err := f(step{v, sql}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
