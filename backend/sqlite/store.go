package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

const (
	busyTimeout = 15 * time.Second // how long another program may hold the file's write lock
	readers     = 3
)

// db is a store.Store on SQLite.
type db struct {
	path    string
	relaxed bool

	lock   *flock.Flock
	write  sync.Mutex // guards w
	w      *conn
	reads  chan *conn
	memory bool
}

var _ store.Store = (*db)(nil)

func newStore(path string, relaxed bool) *db {
	path = strings.TrimPrefix(path, "file:")
	return &db{path: path, relaxed: relaxed, memory: path == "" || path == ":memory:"}
}

func (d *db) Open(ctx context.Context) (created bool, m store.Marks, err error) {
	if d.memory {
		return d.openMemory()
	}
	_, err = os.Stat(d.path)
	created = errors.Is(err, fs.ErrNotExist)
	if err != nil && !created {
		return false, m, err
	}
	if err := d.own(); err != nil {
		return false, m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	fresh, err := migrate(ctx, d.path)
	if err != nil {
		return false, m, fmt.Errorf("%s: %w", d.path, err)
	}
	if d.w, err = d.connect(false); err != nil {
		return false, m, err
	}
	if m, err = d.takeOver(); err != nil {
		return false, m, fmt.Errorf("%s: %w", d.path, err)
	}
	d.reads = make(chan *conn, readers)
	for range readers {
		c, err := d.connect(true)
		if err != nil {
			return false, m, err
		}
		d.reads <- c
	}
	return created || fresh, m, nil
}

func (d *db) openMemory() (bool, store.Marks, error) {
	created := d.w == nil
	if created {
		c, err := sqlite3.Open(":memory:")
		if err != nil {
			return false, store.Marks{}, err
		}
		if err := c.Exec(firstSchema()); err != nil {
			return false, store.Marks{}, errors.Join(err, c.Close())
		}
		d.w = newConn(c)
	}
	m, err := d.takeOver()
	return created, m, err
}

// own takes the lock on the file and writes down who has it.
func (d *db) own() error {
	d.lock = flock.New(d.path+".lock", flock.SetPermissions(0o644))
	ok, err := d.lock.TryLock()
	if err != nil {
		d.lock = nil
		return fmt.Errorf("lock %s: %w", d.path, err)
	}
	if !ok {
		holder, _ := os.ReadFile(d.path + ".lock")
		d.lock = nil
		return fmt.Errorf("%w: %s is held by %s; it can be read meanwhile, by any SQLite client", store.ErrLocked,
			d.path, strings.TrimSpace(string(holder)))
	}
	host, _ := os.Hostname()
	who := fmt.Sprintf("process %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	return os.WriteFile(d.path+".lock", []byte(who), 0o644)
}

func (d *db) connect(readOnly bool) (*conn, error) {
	flags := sqlite3.OPEN_READWRITE
	if readOnly {
		flags = sqlite3.OPEN_READONLY
	}
	c, err := sqlite3.OpenFlags(d.path, flags)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d.path, err)
	}
	sync := "FULL"
	if d.relaxed {
		sync = "NORMAL"
	}
	pragmas := "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384;"
	if !readOnly {
		pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=" + sync +
			"; PRAGMA wal_autocheckpoint=7000; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-65536;"
	}
	if err := errors.Join(c.BusyTimeout(busyTimeout), c.Exec(pragmas)); err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", d.path, err), c.Close())
	}
	return newConn(c), nil
}

// takeOver raises the epoch and finds where the counters go on: a number may
// be used again only after every row that had it is gone.
func (d *db) takeOver() (m store.Marks, err error) {
	err = d.w.tx(func() error {
		if err := d.w.query(`UPDATE meta SET epoch = epoch + 1 RETURNING epoch`, nil, func(s *sqlite3.Stmt) error {
			m.Epoch = s.ColumnInt64(0)
			return nil
		}); err != nil {
			return err
		}
		if m.Epoch == 0 {
			return fmt.Errorf("%w: the meta row is gone", store.ErrCorrupt)
		}
		return d.w.query(`SELECT (SELECT max(key) FROM instances),
 max((SELECT coalesce(max(lsn), 0) FROM history), 0), max((SELECT coalesce(max(seq), 0) FROM inbox), 0)`, nil,
			func(s *sqlite3.Stmt) error {
				m.Key, m.LSN, m.Seq = s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2)
				return nil
			})
	})
	return m, err
}

// Close releases the file; in memory it keeps everything.
func (d *db) Close() error {
	d.write.Lock()
	defer d.write.Unlock()
	if d.memory {
		return nil
	}
	var errs []error
	if d.reads != nil {
		for range len(d.reads) {
			errs = append(errs, (<-d.reads).close())
		}
		d.reads = nil
	}
	if d.w != nil {
		errs = append(errs, d.w.close())
		d.w = nil
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Unlock())
		d.lock = nil
	}
	return errors.Join(errs...)
}

// Destroy deletes the files.
func (d *db) Destroy(context.Context) error {
	if d.memory {
		d.write.Lock()
		defer d.write.Unlock()
		if d.w == nil {
			return store.ErrNotFound
		}
		err := d.w.close()
		d.w = nil
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		return store.ErrNotFound
	}
	if err := d.own(); err != nil {
		return err
	}
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(d.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, d.lock.Unlock())
	d.lock = nil
	return errors.Join(errs...)
}
