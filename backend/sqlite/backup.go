package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

// Backup writes the task hub of a file into another, which must not exist, as
// it is at one moment, while its owner goes on: everything that was
// acknowledged before the call is in it. The copy is whole, synced to disk and
// under its name, or it is not there.
func Backup(ctx context.Context, filePath, to string) (err error) {
	d := newStore(filePath, false)
	if err := d.OpenRead(ctx); err != nil {
		return fmt.Errorf("back up %s: %w", filePath, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return place(to, func(part string) error {
		return d.read(ctx, func(c *conn) error { return c.exec(`VACUUM INTO ?`, part) })
	})
}

// Restore puts a backup in the place of a task hub, which must not exist.
func Restore(ctx context.Context, backup, filePath string) error {
	if err := Check(ctx, backup); err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	for _, suffix := range []string{"-wal", "-shm"} { // they would be taken for those of the backup
		if _, err := os.Stat(filePath + suffix); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("restore %s: %s%s is in the way", backup, filePath, suffix)
		}
	}
	return place(filePath, func(part string) (err error) {
		from, err := os.Open(backup)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.Close()) }()
		to, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, from)
		return errors.Join(err, to.Close())
	})
}

// place has write make a file beside its place, syncs it and gives it its name,
// which nothing may have.
func place(name string, write func(part string) error) (err error) {
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", name, fs.ErrExist)
	}
	dir, err := os.MkdirTemp(filepath.Dir(name), ".perdure-")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	part := filepath.Join(dir, "part")
	if err := write(part); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := syncFile(part); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Link(part, name); err != nil { // unlike a rename, it replaces nothing
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncFile(filepath.Dir(name))
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Check has SQLite look for damage in a file: in its pages, its indexes and
// its constraints. It reads all of it, while an owner may go on. An error that
// wraps [ErrDamaged] names what was found.
func Check(ctx context.Context, filePath string) (err error) {
	d := newStore(filePath, false)
	if err := d.OpenRead(ctx); err != nil {
		return fmt.Errorf("check %s: %w", filePath, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	var found []error
	err = d.read(ctx, func(c *conn) error {
		return c.query(`PRAGMA integrity_check(20)`, nil, func(s *sqlite3.Stmt) error {
			if text := s.ColumnText(0); text != "ok" {
				found = append(found, fmt.Errorf("%w: %s", ErrDamaged, text))
			}
			return nil
		})
	})
	if err != nil {
		if errors.Is(err, store.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return fmt.Errorf("check %s: %w", filePath, err)
	}
	return errors.Join(found...)
}

// ErrDamaged says that a database file is damaged.
var ErrDamaged = errors.New("the database file is damaged")

// SchemaVersion is the version of the schema of a file, and the newest that this
// program knows. Version 0 is a file without a task hub.
func SchemaVersion(ctx context.Context, filePath string) (version, latest int64, err error) {
	d := newStore(filePath, false)
	file, missing, err := d.stat()
	if err != nil {
		return 0, 0, err
	}
	if latest, err = latestVersion(); err != nil || missing {
		return 0, latest, err
	}
	version, err = schemaVersion(ctx, file)
	return version, latest, err
}

// Migrations are the statements that make a schema of version 1, of it one of version 2, and so on.
func Migrations() (steps []string, err error) {
	names, err := fs.Glob(files, "migrations/*.sql") // in order
	for _, n := range names {
		data, rerr := files.ReadFile(n)
		up, _, _ := strings.Cut(string(data), "-- +goose Down")
		steps, err = append(steps, strings.TrimSpace(strings.TrimPrefix(up, "-- +goose Up"))), errors.Join(err, rerr)
	}
	return steps, err
}
