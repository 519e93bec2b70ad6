package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

// present is a file that was there when the hub was opened. SQLite goes on to
// write to a file that was deleted or moved away meanwhile: all that is
// committed then is gone with the process.
type present struct {
	path string
	was  os.FileInfo
}

// look remembers files.
func look(paths ...string) ([]present, error) {
	var all []present
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		all = append(all, present{p, info})
	}
	return all, nil
}

// present reports a file that is not where it was.
func (d *db) present() error {
	for _, f := range d.files {
		now, err := os.Stat(f.path)
		if err != nil {
			return fmt.Errorf("%w: the file vanished: %w", store.ErrUnavailable, err)
		}
		if !os.SameFile(f.was, now) {
			return fmt.Errorf("%w: %s is another file than the one that was opened", store.ErrUnavailable, f.path)
		}
	}
	return nil
}

// probeSize is more than a batch of a few small records.
const probeSize = 1 << 16

// diagnose adds what the operating system says of the disk to an error of
// which SQLite says only that it was one of the disk.
func (d *db) diagnose(err error) error {
	if d.memory || !errors.Is(err, sqlite3.IOERR) && !errors.Is(err, sqlite3.FULL) && !errors.Is(err, sqlite3.READONLY) {
		return err
	}
	if cause := probe(d.path); cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// probe writes a file beside the database, as far out as its log reaches.
func probe(path string) (err error) {
	f, err := os.Create(path + "-probe")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	end := int64(0)
	if log, err := os.Stat(path + "-wal"); err == nil {
		end = log.Size()
	}
	if _, err = f.WriteAt(make([]byte, probeSize), end); err != nil {
		return err
	}
	return f.Sync()
}

// Check looks for the files and, where write is set, commits a transaction that changes nothing.
func (d *db) Check(ctx context.Context, write bool) error {
	d.life.RLock()
	defer d.life.RUnlock()
	if !d.open {
		return errClosed
	}
	if err := d.present(); err != nil || !write {
		return err
	}
	d.write.Lock()
	defer d.write.Unlock()
	if err := d.w.tx(ctx, func() error { return d.w.exec(`UPDATE meta SET epoch = epoch`) }); err != nil {
		return d.diagnose(err)
	}
	if d.memory {
		return nil
	}
	if err := probe(d.path); err != nil { // it takes more room than the transaction
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return nil
}

var _ store.Checker = (*db)(nil)
