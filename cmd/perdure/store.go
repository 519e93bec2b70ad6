package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/postgres"
	"github.com/perdure/perdure/backend/sqlite"
)

// openBackend returns the backend that a --db flag names. It opens nothing yet.
func openBackend(db string, log backend.Logger) (backend.Backend, error) {
	scheme, _, isURL := strings.Cut(db, "://")
	switch {
	case db == "":
		return nil, usageError{errors.New("--db is empty: want the path of a SQLite file or a postgres:// URL")}
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		opts, err := postgres.NewPostgresOptionsFromURL(db)
		if err != nil {
			return nil, usageError{fmt.Errorf("--db: %w", err)}
		}
		return postgres.NewPostgresBackend(opts, log), nil
	case isURL:
		return nil, usageError{errors.New("--db " + scheme + "://: want the path of a SQLite file or a postgres:// URL")}
	}
	return sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(db), log), nil
}
