package sqlite

import (
	"errors"
	"fmt"
	"os"
)

// walSize is how far the write-ahead log is written out when a file is opened.
// To overwrite a log costs half of what it costs to grow it at each commit,
// as the file system has nothing of its own to record. It is less than the size at
// which the log is checkpointed and begins anew.
const walSize = 16 << 20

// extendLog fills the log up with zeros. SQLite reads a log up to the first frame
// that does not carry the salt of its header, so zeros behind it mean nothing.
// It is called by the owner of the file, who holds the write lock and has written nothing under it.
// Where there is no room it leaves the log as it was: a full disk can be read, and emptied.
func extendLog(file string) (err error) {
	f, err := os.OpenFile(file+"-wal", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("extend the log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("extend the log: %w", err)
	}
	zeros := make([]byte, 1<<20)
	for at := info.Size(); at < walSize; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), walSize-at)], at); err != nil {
			if err := f.Truncate(info.Size()); err != nil {
				return fmt.Errorf("extend the log: %w", err)
			}
			return nil
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("extend the log: %w", err)
	}
	return nil
}
