package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/perdure/perdure/backend/internal/store"
)

// locate reads a path as SQLite does: plain, or a "file:" URI, of which only
// the path and mode=memory count. An empty file is in memory.
func locate(path string) (file string, memory bool) {
	file, isURI := strings.CutPrefix(path, "file:")
	if isURI {
		file, _, _ = strings.Cut(file, "#")
		var query string
		file, query, _ = strings.Cut(file, "?")
		if v, err := url.ParseQuery(query); err == nil && v.Get("mode") == "memory" {
			return "", true
		}
		if rest, ok := strings.CutPrefix(file, "//"); ok { // an authority: none or localhost
			file = strings.TrimPrefix(rest, "localhost")
		}
		if plain, err := url.PathUnescape(file); err == nil {
			file = plain
		}
	}
	if file == "" || file == ":memory:" {
		return "", true
	}
	return file, false
}

// resolve gives a file one name, whichever way it is reached, so that it has one lock.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	file, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) { // the file may come to be; its folder must be there
		dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
		return filepath.Join(dir, filepath.Base(abs)), err
	}
	return file, err
}

// ownTries bounds how often a lock is taken anew because its file was deleted meanwhile.
const ownTries = 10

// own takes the lock beside the file and writes down who has it.
func own(path string) (*flock.Flock, error) {
	for range ownTries {
		l := flock.New(path+".lock", flock.SetPermissions(0o644))
		ok, err := l.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !ok {
			holder, _ := os.ReadFile(path + ".lock") // only for the message
			return nil, fmt.Errorf("%w: %s is held by %s; it can be read meanwhile, by any SQLite client",
				store.ErrLocked, path, strings.TrimSpace(string(holder)))
		}
		if !current(l) {
			if err := l.Unlock(); err != nil {
				return nil, fmt.Errorf("lock %s: %w", path, err)
			}
			continue
		}
		host, _ := os.Hostname()
		who := fmt.Sprintf("process %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
		if err := os.WriteFile(l.Path(), []byte(who), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), l.Unlock())
		}
		return l, nil
	}
	return nil, fmt.Errorf("lock %s: %w: its lock file is being deleted", path, store.ErrLocked)
}

// current reports whether the locked file is still the one with that name: a
// Destroy deletes it, and a lock on a deleted file excludes nobody.
func current(l *flock.Flock) bool {
	held, err := l.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(l.Path())
	return err == nil && os.SameFile(held, named)
}
