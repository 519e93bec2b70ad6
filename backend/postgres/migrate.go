package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/perdure/perdure/backend/internal/store"
)

//go:embed migrations/*.sql
var files embed.FS

// migrations are the files with the schema's name put in, so that no search
// path is needed, which a proxy that pools transactions would not keep.
func migrations(schema string) ([]*goose.Migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		up := strings.ReplaceAll(string(text), "{hub}", schema)
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{
			RunTx: func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, up)
				return err
			},
		}, nil))
	}
	return all, nil
}

// migrate brings the hub's schema up to date, one process at a time, and
// reports whether there was none.
func migrate(ctx context.Context, conf *pgx.ConnConfig, schema string) (fresh bool, err error) {
	conf = conf.Copy()
	conf.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool := sql.OpenDB(stdlib.GetConnector(*conf))
	pool.SetMaxOpenConns(2) // one holds the lock, one migrates
	defer func() { err = errors.Join(err, pool.Close()) }()

	all, err := migrations(schema)
	if err != nil {
		return false, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, pool, nil, goose.WithGoMigrations(all...),
		goose.WithTableName(schema+".goose_db_version"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return false, err
	}
	latest := all[len(all)-1].Version
	version, err := schemaVersion(ctx, pool, schema)
	if err != nil || version == latest {
		return false, err
	}
	if version > latest {
		return false, fmt.Errorf("%w: it has version %d, this program knows up to %d", store.ErrSchemaTooNew, version, latest)
	}
	unlock, err := lockSchema(ctx, pool, schema)
	if err != nil {
		return false, fmt.Errorf("lock schema %s: %w", schema, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if version, err = schemaVersion(ctx, pool, schema); err != nil || version >= latest {
		return false, err // another has done it meanwhile
	}
	if _, err := p.Up(ctx); err != nil {
		return false, fmt.Errorf("migrate schema %s: %w", schema, err)
	}
	return version == 0, nil
}

// lockTries bounds how often the making of the schema is tried again because
// another process makes it at the same moment.
const lockTries = 20

// lockSchema makes the schema where there is none and keeps other migrating
// processes out, until unlock or the end of this process.
func lockSchema(ctx context.Context, pool *sql.DB, schema string) (unlock func() error, err error) {
	for range lockTries {
		if _, err = pool.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+schema); err == nil {
			_, err = pool.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS `+schema+`.migrating (one boolean PRIMARY KEY)`)
		}
		if err == nil {
			break
		}
		if !madeMeanwhile(err) {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `LOCK TABLE `+schema+`.migrating IN EXCLUSIVE MODE`); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx.Rollback, nil
}

// schemaVersion reads the version of the schema without changing it; 0 where there is none.
func schemaVersion(ctx context.Context, pool *sql.DB, schema string) (int64, error) {
	var there bool
	if err := pool.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, schema+".goose_db_version").Scan(&there); err != nil || !there {
		return 0, describe(err)
	}
	var v sql.NullInt64
	err := pool.QueryRowContext(ctx, `SELECT max(version_id) FROM `+schema+`.goose_db_version WHERE is_applied`).Scan(&v)
	return v.Int64, describe(err)
}
