package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/pressly/goose/v3"

	"github.com/perdure/perdure/backend/internal/store"
)

//go:embed migrations/*.sql
var files embed.FS

func migrations() fs.FS {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return sub
}

// firstSchema is what an empty database in memory is made with.
func firstSchema() string {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	var b strings.Builder
	for _, n := range names {
		data, err := files.ReadFile(n)
		if err != nil {
			panic(err)
		}
		up, _, _ := strings.Cut(string(data), "-- +goose Down")
		b.WriteString(up)
	}
	return b.String()
}

// latestVersion is that of the newest migration in this program.
func latestVersion() (v int64, err error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	for _, n := range names {
		one, nerr := goose.NumericComponent(n)
		v, err = max(v, one), errors.Join(err, nerr)
	}
	return v, err
}

// migrate brings the file's schema up to date and reports whether it had none.
func migrate(ctx context.Context, path string) (fresh bool, err error) {
	pool, err := connectSQL(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	p, err := goose.NewProvider(goose.DialectSQLite3, pool, migrations())
	if err != nil {
		return false, err
	}
	latest := p.ListSources()[len(p.ListSources())-1].Version
	version, err := versionOf(ctx, pool)
	if err != nil {
		return false, fmt.Errorf("read schema version: %w", wrap(err))
	}
	switch {
	case version > latest:
		return false, fmt.Errorf("%w: it has version %d, this program knows up to %d", store.ErrSchemaTooNew, version, latest)
	case version == latest:
		return false, nil
	}
	if _, err = p.Up(ctx); err != nil {
		return false, fmt.Errorf("migrate schema: %w", err)
	}
	return version == 0, nil
}

func connectSQL(path string) (*sql.DB, error) {
	pool, err := driver.Open("file:" + uriPath(path))
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	return pool, nil
}

// schemaVersion reads the version of a file's schema; 0 where it has none.
func schemaVersion(ctx context.Context, path string) (v int64, err error) {
	pool, err := connectSQL(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if v, err = versionOf(ctx, pool); err != nil {
		return 0, fmt.Errorf("read schema version: %w", wrap(err))
	}
	return v, nil
}

// versionOf reads the schema version without changing the file; 0 where it has none.
func versionOf(ctx context.Context, pool *sql.DB) (int64, error) {
	var tables int
	if err := pool.QueryRowContext(ctx,
		`SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`).Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	var v sql.NullInt64
	err := pool.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&v)
	return v.Int64, err
}

// uriPath escapes what has a meaning in a SQLite URI.
func uriPath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}
