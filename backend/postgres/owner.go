package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/backend/internal/store"
)

// acquirePause is between two looks whether the lease of another process has ended.
const acquirePause = 100 * time.Millisecond

// acquire becomes the owner of the hub. Where another process is, it waits for
// as long as the lease of one that has died would still last: then it gives up
// with ErrLocked, which names the holder.
func (d *db) acquire(ctx context.Context) error {
	d.write.Lock()
	defer d.write.Unlock()
	us := d.opts.Lease.Microseconds()
	patience := time.NewTimer(d.opts.Lease + d.opts.Lease/2)
	defer patience.Stop()
	for {
		err := d.pool.QueryRow(ctx, d.sql.acquire, holder(), us).Scan(&d.epoch)
		if err == nil {
			d.gate = 0
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) && !rolledBack(err) {
			return err
		}
		select {
		case <-time.After(acquirePause):
		case <-ctx.Done():
			return d.lockedBy(context.WithoutCancel(ctx), ctx.Err())
		case <-patience.C:
			return d.lockedBy(ctx, nil)
		}
	}
}

func (d *db) lockedBy(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var who string
	if err := d.pool.QueryRow(ctx, d.sql.held).Scan(&who); err != nil {
		return errors.Join(store.ErrLocked, why, err)
	}
	err := fmt.Errorf("%w: it is held by %s, which is alive; it is free once that process stops", store.ErrLocked, who)
	return errors.Join(err, why)
}

// keepLease renews the lease until ctx ends or another process has taken over.
func (d *db) keepLease(ctx context.Context, epoch int64) {
	every := d.opts.Lease / 3
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		try, cancel := context.WithTimeout(ctx, every)
		tag, err := d.pool.Exec(try, d.sql.renew, epoch, d.opts.Lease.Microseconds())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			d.log.Warnf("%s: renew lease: %v", d.opts.name(), describe(err))
		case tag.RowsAffected() == 0:
			d.log.Errorf("%s: another process took over", d.opts.name())
			return // the next commit says so to the engine
		}
	}
}
