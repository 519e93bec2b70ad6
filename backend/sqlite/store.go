package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

const (
	busyTimeout = 10 * time.Second // how long one try waits for another program's write lock
	busyTries   = 2
	readers     = 3
)

// db is a store.Store on SQLite.
type db struct {
	path    string // as given, less a URI's decoration
	relaxed bool
	memory  bool

	life  sync.RWMutex // held to read by every call, to write by Open, Close and Destroy
	open  bool
	lock  *flock.Flock
	reads chan *conn
	write sync.Mutex // guards the use of w
	w     *conn      // in memory it outlives Close
	files []present  // that must be there, where they were
}

var _ store.Store = (*db)(nil)

// newStore returns a closed store. An empty path is in memory; relaxed leaves
// out the sync at each commit.
func newStore(path string, relaxed bool) *db {
	path, memory := locate(path)
	return &db{path: path, relaxed: relaxed, memory: memory}
}

func (d *db) Open(ctx context.Context) (created bool, m store.Marks, err error) {
	d.life.Lock()
	defer d.life.Unlock()
	defer func() { err = wrapOpen(err) }()
	if d.memory {
		return d.openMemory()
	}
	if d.open {
		return false, m, fmt.Errorf("%w: %s is open already, in this process", store.ErrLocked, d.path)
	}
	file, created, err := d.stat()
	if err != nil {
		return false, m, fmt.Errorf("open %s: %w", d.path, err)
	}
	if d.lock, err = own(file); err != nil {
		return false, m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open %s: %w", d.path, err), d.shut())
		}
	}()
	fresh, err := migrate(ctx, file)
	if err != nil {
		return false, m, err
	}
	if d.w, err = d.connect(file, false); err != nil {
		return false, m, err
	}
	if m, err = d.takeOver(ctx); err != nil {
		return false, m, err
	}
	// The write lock keeps a foreign program from writing where the zeros go.
	if err := d.w.tx(ctx, func() error { return extendLog(file) }); err != nil {
		return false, m, err
	}
	if d.files, err = look(file, file+"-wal"); err != nil {
		return false, m, err
	}
	d.reads = make(chan *conn, readers)
	for range readers {
		c, err := d.connect(file, true)
		if err != nil {
			return false, m, err
		}
		d.reads <- c
	}
	d.open = true
	return created || fresh, m, nil
}

// stat gives the file's one name and whether there is none yet.
func (d *db) stat() (file string, missing bool, err error) {
	file, err = resolve(d.path)
	if err != nil {
		return "", false, err
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return file, true, nil
	case err != nil:
		return "", false, err
	case !info.Mode().IsRegular():
		return "", false, errors.New("it is no regular file")
	}
	return file, false, nil
}

// openMemory may find the hub open: then, as in a crash, the opener before is fenced off.
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
	m, err := d.takeOver(context.Background())
	d.open = d.open || err == nil
	return created, m, err
}

func (d *db) connect(file string, readOnly bool) (*conn, error) {
	flags := sqlite3.OPEN_READWRITE
	if readOnly {
		flags = sqlite3.OPEN_READONLY
	}
	c, err := sqlite3.OpenFlags(file, flags)
	if err != nil {
		return nil, err
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
		return nil, errors.Join(fmt.Errorf("set up connection: %w", err), c.Close())
	}
	return newConn(c), nil
}

// takeOver raises the epoch and finds where the counters go on: a number may
// be used again only after every row that had it is gone, from every table.
func (d *db) takeOver(ctx context.Context) (m store.Marks, err error) {
	err = d.w.tx(ctx, func() error {
		if err := d.w.query(`UPDATE meta SET epoch = epoch + 1 RETURNING epoch`, nil, func(s *sqlite3.Stmt) error {
			m.Epoch = s.ColumnInt64(0)
			return nil
		}); err != nil {
			return err
		}
		if m.Epoch == 0 {
			return fmt.Errorf("%w: the meta row is gone", store.ErrCorrupt)
		}
		return d.w.query(`SELECT max(coalesce((SELECT max(key) FROM instances), 0),
  coalesce((SELECT max(key) FROM history), 0), coalesce((SELECT max(key) FROM inbox), 0)),
 (SELECT max(lsn) FROM history), (SELECT max(seq) FROM inbox)`, nil,
			func(s *sqlite3.Stmt) error {
				m.Key, m.LSN, m.Seq = s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2)
				return nil
			})
	})
	return m, err
}

// Close waits for the calls that run and releases the file; in memory it keeps everything.
func (d *db) Close() error {
	d.life.Lock()
	defer d.life.Unlock()
	return d.shut()
}

// shut releases what there is; life is held.
func (d *db) shut() error {
	d.open, d.files = false, nil
	if d.memory {
		return nil
	}
	var errs []error
	for range len(d.reads) { // all are there, as no call runs
		errs = append(errs, (<-d.reads).close())
	}
	d.reads = nil
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

// Destroy deletes the files, if they are those of a hub.
func (d *db) Destroy(ctx context.Context) (err error) {
	d.life.Lock()
	defer d.life.Unlock()
	defer func() { err = wrapOpen(err) }()
	err = d.shut()
	if d.memory {
		if d.w == nil {
			return store.ErrNotFound
		}
		err, d.w = d.w.close(), nil
		return err
	}
	if err != nil {
		return err
	}
	file, missing, err := d.stat()
	if missing || errors.Is(err, fs.ErrNotExist) {
		return store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", d.path, err)
	}
	l, err := own(file)
	if err != nil {
		return err
	}
	err = remove(ctx, file)
	if err = errors.Join(err, l.Unlock()); err != nil {
		return fmt.Errorf("delete %s: %w", d.path, err)
	}
	return nil
}

// remove deletes the log before the file, for it must never meet a new file of that name.
func remove(ctx context.Context, file string) error {
	version, err := schemaVersion(ctx, file)
	if err != nil {
		return err
	}
	suffixes := []string{"-wal", "-shm", "-probe", "", ".lock"}
	if version == 0 {
		suffixes = []string{".lock"}
		err = fmt.Errorf("%w: the file is no task hub", store.ErrNotFound)
	}
	for _, suffix := range suffixes {
		if rerr := os.Remove(file + suffix); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
