package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/postgres"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/server"
)

// storeOptions are what all stores can be told; zero values leave their defaults.
type storeOptions struct {
	maxPayload int
	relaxed    bool
	clock      backend.Clock
}

// openBackend returns the backend that a --db flag names. It opens nothing yet.
func openBackend(db string, log backend.Logger) (backend.Backend, error) {
	be, _, err := openStore(db, storeOptions{}, log)
	return be, err
}

// openStore is openBackend that can also open other task hubs beside it.
func openStore(db string, o storeOptions, log backend.Logger) (backend.Backend, server.Hubs, error) {
	scheme, _, isURL := strings.Cut(db, "://")
	switch {
	case db == "":
		return nil, nil, usageError{errors.New("--db is empty: want the path of a SQLite file or a postgres:// URL")}
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		opts, err := postgres.NewPostgresOptionsFromURL(db)
		if err != nil {
			return nil, nil, usageError{fmt.Errorf("--db: %w", err)}
		}
		opts.MaxPayload, opts.RelaxedDurability = o.maxPayload, o.relaxed
		return postgres.NewPostgresBackend(opts, log), schemaHubs{*opts, log}, nil
	case isURL:
		return nil, nil, usageError{errors.New("--db " + scheme + "://: want the path of a SQLite file or a postgres:// URL")}
	}
	opts := sqlite.NewSqliteOptions(db)
	opts.MaxPayload, opts.RelaxedDurability = o.maxPayload, o.relaxed
	return sqlite.NewSqliteBackend(opts, log), fileHubs{db, *opts, log}, nil
}

// openMemory returns a task hub that is forgotten when the process ends, and others like it.
func openMemory(o storeOptions, log backend.Logger) (backend.Backend, server.Hubs) {
	opts := sqlite.NewSqliteOptions("")
	opts.MaxPayload, opts.Clock = o.maxPayload, o.clock
	return sqlite.NewSqliteBackend(opts, log), memoryHubs{*opts, log}
}
