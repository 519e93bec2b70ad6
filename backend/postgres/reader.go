package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/backend/internal/store"
)

var _ store.ReadOpener = (*db)(nil)

// OpenRead opens the pool only: no lease is taken.
func (d *db) OpenRead(ctx context.Context) (err error) {
	d.life.Lock()
	defer d.life.Unlock()
	if err := d.opts.validate(); err != nil {
		return err
	}
	if d.open {
		return errors.New("it is open already")
	}
	if d.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), d.opts.PgOptions.Copy()); err != nil {
		return err
	}
	if err := d.checkSchema(ctx); err != nil {
		return errors.Join(describe(err), d.shut())
	}
	d.open = true
	return nil
}

// checkSchema wants the schema that this program knows: an older one is migrated by its owner only.
func (d *db) checkSchema(ctx context.Context) error {
	all, err := migrations(d.opts.Schema)
	if err != nil {
		return err
	}
	latest, version, there := all[len(all)-1].Version, int64(0), false
	if err := d.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, d.opts.Schema+".goose_db_version").Scan(&there); err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: schema %s holds no task hub", store.ErrNotFound, d.opts.Schema)
	}
	if err := d.pool.QueryRow(ctx,
		`SELECT coalesce(max(version_id), 0) FROM `+d.opts.Schema+`.goose_db_version WHERE is_applied`).Scan(&version); err != nil {
		return err
	}
	switch {
	case version > latest:
		return fmt.Errorf("%w: it has version %d, this program knows up to %d", store.ErrSchemaTooNew, version, latest)
	case version < latest:
		return fmt.Errorf("the schema has version %d and this program reads version %d: migrate it first", version, latest)
	}
	return nil
}
