package main

import (
	"errors"
	"strings"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

// openBackend returns the backend that a --db flag names. It opens nothing yet.
func openBackend(db string, log backend.Logger) (backend.Backend, error) {
	switch {
	case db == "":
		return nil, usageError{errors.New("--db is empty: want the path of a SQLite file")}
	case strings.Contains(db, "://"):
		return nil, usageError{errors.New("--db " + db + ": there is only the SQLite store yet: want the path of a file")}
	}
	return sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(db), log), nil
}
