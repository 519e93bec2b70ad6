package postgres

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/stdlib"
)

// SchemaVersion is the version of the schema that opts name, and the newest
// that this program knows. Version 0 is a schema without a task hub.
func SchemaVersion(ctx context.Context, opts *PostgresOptions) (version, latest int64, err error) {
	if err := opts.validate(); err != nil {
		return 0, 0, err
	}
	all, err := migrations(opts.Schema)
	if err != nil {
		return 0, 0, err
	}
	pool := sql.OpenDB(stdlib.GetConnector(*opts.PgOptions.ConnConfig))
	defer func() { err = errors.Join(err, pool.Close()) }()
	version, err = schemaVersion(ctx, pool, opts.Schema)
	return version, all[len(all)-1].Version, err
}

// Migrations are the statements that make a schema of version 1, of it one of version 2, and so on.
func Migrations(opts *PostgresOptions) (steps []string, err error) {
	names, err := fs.Glob(files, "migrations/*.sql") // in order
	for _, n := range names {
		data, rerr := files.ReadFile(n)
		steps, err = append(steps, strings.TrimSpace(strings.ReplaceAll(string(data), "{hub}", opts.Schema))), errors.Join(err, rerr)
	}
	return steps, err
}
