package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// MaxSchema is how long the name of a schema may be.
const MaxSchema = 48

// Schemas lists the schemas of the database whose names have the prefix.
func Schemas(ctx context.Context, opts *PostgresOptions, prefix string) (names []string, err error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	c, err := pgx.ConnectConfig(ctx, opts.PgOptions.ConnConfig.Copy())
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // nothing was written
	rows, err := c.Query(ctx, `SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, $1) ORDER BY nspname`, prefix)
	if err == nil {
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	return names, nil
}
