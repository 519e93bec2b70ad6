package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

var _ store.ReadOpener = (*db)(nil)

// OpenRead opens the reading connections only, without the lock.
func (d *db) OpenRead(ctx context.Context) (err error) {
	d.life.Lock()
	defer d.life.Unlock()
	if d.memory || d.open {
		return errors.New("only a file that is not open can be opened to read")
	}
	file, missing, err := d.stat()
	if missing {
		return fmt.Errorf("%w: %s", store.ErrNotFound, d.path)
	}
	if err != nil {
		return err
	}
	d.reads = make(chan *conn, readers)
	for range readers {
		c, err := d.connect(file, true)
		if err != nil {
			return errors.Join(err, d.shut())
		}
		d.reads <- c
	}
	d.open = true
	if err := d.checkSchema(ctx); err != nil {
		return errors.Join(err, d.shut())
	}
	return nil
}

// checkSchema wants the schema that this program knows: an older one is migrated by its owner only.
func (d *db) checkSchema(ctx context.Context) error {
	c := <-d.reads
	defer func() { d.reads <- c }()
	tables, version := 0, int64(0)
	err := c.during(ctx, func() error {
		if err := c.query(`SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`, nil, func(s *sqlite3.Stmt) error {
			tables = s.ColumnInt(0)
			return nil
		}); err != nil || tables == 0 {
			return err
		}
		return c.query(`SELECT max(version_id) FROM goose_db_version WHERE is_applied`, nil, func(s *sqlite3.Stmt) error {
			version = s.ColumnInt64(0)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	latest, err := latestVersion()
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("%w: %s holds no task hub", store.ErrNotFound, d.path)
	case version > latest:
		return fmt.Errorf("%w: it has version %d, this program knows up to %d", store.ErrSchemaTooNew, version, latest)
	case version < latest:
		return fmt.Errorf("the schema has version %d and this program reads version %d: migrate it first", version, latest)
	}
	return nil
}
