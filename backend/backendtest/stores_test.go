package backendtest

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

func newFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "hub.db")
}

func openSqlite(file string, s Settings) backend.Backend {
	o := sqlite.NewSqliteOptions(file)
	o.MaxResident, o.MaxPayload, o.MaxIDLength = s.MaxResident, s.MaxPayload, s.MaxIDLength
	if s.LockTimeout != 0 {
		o.OrchestrationLockTimeout, o.ActivityLockTimeout = s.LockTimeout, s.LockTimeout
	}
	return sqlite.NewSqliteBackend(o, s.Logger)
}

func sqliteFile(file string) Hub {
	return Hub{
		Open:     func(s Settings) backend.Backend { return openSqlite(file, s) },
		Messages: func(tb testing.TB) int { return number(tb, file, `SELECT count(*) FROM inbox`) },
		Damage: func(tb testing.TB, id api.InstanceID, how Damage) {
			key := number(tb, file, fmt.Sprintf(`SELECT key FROM instances WHERE id = '%s'`, id))
			rowEdit(tb, file, fmt.Sprintf(map[Damage]string{
				UnreadableHistory: `UPDATE history SET events = x'ffffffff' WHERE key = %d`,
				LostHistory:       `DELETE FROM history WHERE key = %d; DELETE FROM inbox`,
				HugeHistory: `INSERT INTO history WITH RECURSIVE v(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM v LIMIT 6)
					SELECT (SELECT max(lsn) FROM history) + n, %d, 0, zeroblob(16000000) FROM v`,
			}[how], key))
		},
	}
}

func newSqliteFile(tb testing.TB) Hub {
	tb.Helper()
	return sqliteFile(newFile(tb))
}

func newSqliteMemory(testing.TB) Hub {
	return Hub{Open: Volatile(func(s Settings) backend.Backend { return openSqlite("", s) })}
}

// rowEdit runs SQL on the file of a stopped backend.
func rowEdit(t testing.TB, file, sql string) {
	t.Helper()
	db, err := sqlite3.Open(file)
	if err == nil {
		err = errors.Join(db.Exec(sql), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// number reads one number from the file, beside a backend that may run.
func number(t testing.TB, file, sql string) int {
	t.Helper()
	db, err := sqlite3.OpenFlags(file, sqlite3.OPEN_READONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.BusyTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	s, _, err := db.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	s.Step()
	n := s.ColumnInt(0)
	if err := errors.Join(s.Err(), s.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}
