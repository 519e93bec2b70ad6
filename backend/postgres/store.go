package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// db is a store.Store on PostgreSQL.
type db struct {
	opts *PostgresOptions
	log  backend.Logger
	sql  statements

	life sync.RWMutex // held to read by every call, to write by Open, Close and Destroy
	open bool
	pool *pgxpool.Pool
	stop context.CancelFunc // ends the renewing of the lease
	wg   sync.WaitGroup

	write sync.Mutex    // guards what follows: whoever commits
	w     *pgxpool.Conn // kept for commits; nil until the next needs one
	epoch int64
	gate  int64
}

var _ store.Store = (*db)(nil)

func newStore(opts *PostgresOptions, log backend.Logger) *db {
	return &db{opts: opts, log: log, sql: newStatements(opts.Schema)}
}

// epochBits is how far apart the numbers of two owners are: keys, LSNs and
// sequence numbers begin at the epoch shifted by this much. So an owner needs
// not look for the highest number in use, which no index would give it.
const epochBits = 40

func (d *db) Open(ctx context.Context) (created bool, m store.Marks, err error) {
	d.life.Lock()
	defer d.life.Unlock()
	if err := d.opts.validate(); err != nil {
		return false, m, err
	}
	if d.open {
		return false, m, fmt.Errorf("%w: %s is open already, in this process", store.ErrLocked, d.opts.name())
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open %s: %w", d.opts.name(), describe(err)), d.shut())
		}
	}()
	created, err = migrate(ctx, d.opts.PgOptions.ConnConfig, d.opts.Schema)
	if err != nil {
		return false, m, err
	}
	conf := d.opts.PgOptions.Copy()
	conf.MaxConns = max(conf.MaxConns, 2)
	if d.pool, err = pgxpool.NewWithConfig(context.Background(), conf); err != nil {
		return false, m, err
	}
	if err := d.checkServer(ctx); err != nil {
		return false, m, err
	}
	if err := d.acquire(ctx); err != nil {
		return false, m, err
	}
	d.open = true
	run, stop := context.WithCancel(context.Background())
	d.stop = stop
	epoch := d.epoch
	d.wg.Go(func() { d.keepLease(run, epoch) })
	first := d.epoch << epochBits
	return created, store.Marks{Key: first, LSN: first, Seq: first, Epoch: d.epoch}, nil
}

// oldest is the first server version that works.
const oldest = 130000

func (d *db) checkServer(ctx context.Context) error {
	var version int
	var encoding, fsync string
	if err := d.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'),
 current_setting('fsync')`).Scan(&version, &encoding, &fsync); err != nil {
		return err
	}
	switch {
	case version < oldest:
		return fmt.Errorf("the server has version %d, the oldest that works is %d", version, oldest)
	case encoding != "UTF8":
		return fmt.Errorf("the database has the encoding %s, it must be UTF8", encoding)
	case fsync != "on":
		d.log.Warnf("%s: fsync is off at the server: a crash of its machine loses what was acknowledged", d.opts.name())
	}
	return nil
}

// Close gives the lease back, so that another process can take over at once.
func (d *db) Close() error {
	d.life.Lock()
	defer d.life.Unlock()
	return d.shut()
}

// closeTimeout bounds how long Close waits for a server that does not answer.
const closeTimeout = 2 * time.Second

// shut releases what there is; life is held.
func (d *db) shut() error {
	var err error
	owner := d.open && d.stop != nil
	d.open = false
	if owner {
		d.stop()
		d.stop = nil
		d.wg.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if _, err = d.pool.Exec(ctx, d.sql.give, d.epoch); err != nil {
			d.log.Warnf("%s: the lease was not given back, it ends by itself: %v", d.opts.name(), err)
			err = nil // nothing is lost, the next owner only waits
		}
	}
	if d.w != nil {
		d.w.Release()
		d.w = nil
	}
	if d.pool != nil {
		d.pool.Close()
		d.pool = nil
	}
	return err
}

// Destroy deletes the hub's tables, and its schema if nothing else is in it.
func (d *db) Destroy(ctx context.Context) (err error) {
	d.life.Lock()
	defer d.life.Unlock()
	if err := d.opts.validate(); err != nil {
		return err
	}
	if err := d.shut(); err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("delete %s: %w", d.opts.name(), describe(err))
		}
	}()
	conn, err := pgx.ConnectConfig(ctx, d.opts.PgOptions.ConnConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, d.opts.Schema+".owner").Scan(&there); err != nil {
		return err
	}
	if !there {
		return store.ErrNotFound
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var who string
		var alive bool
		if err := tx.QueryRow(ctx, d.sql.lockOwner).Scan(&who, &alive); err != nil {
			return err
		}
		if alive {
			return fmt.Errorf("%w: it is held by %s", store.ErrLocked, who)
		}
		s := d.opts.Schema
		if _, err := tx.Exec(ctx, `DROP TABLE `+s+`.inbox, `+s+`.history, `+s+`.instances, `+s+`.owner, `+s+`.migrating, `+
			s+`.goose_db_version`); err != nil {
			return err
		}
		var rest int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_class WHERE relnamespace = $1::regnamespace`, s).Scan(&rest); err != nil || rest > 0 {
			return err
		}
		_, err := tx.Exec(ctx, `DROP SCHEMA `+s)
		return err
	})
}
