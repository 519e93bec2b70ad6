package sqlite

import (
	"context"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
)

// SqliteOptions are the settings of a SQLite backend.
type SqliteOptions struct {
	// OrchestrationLockTimeout and ActivityLockTimeout are kept so that older
	// code compiles. Work is never locked by time here: the process that owns
	// the file owns its work, and another process that opens the file after it
	// takes everything over at once.
	OrchestrationLockTimeout time.Duration
	ActivityLockTimeout      time.Duration
	// FilePath is the database file; "" keeps everything in memory.
	FilePath string
	// MaxPayload is the limit of one payload in bytes (default 4 MiB).
	MaxPayload int
	// MaxIDLength is the limit of the instance ids that callers give, in
	// characters (default 100, at most 1,024); 1,024 bytes are the limit in any case.
	MaxIDLength int
	// MaxResident is roughly how much memory, in bytes, idle orchestrations may
	// keep between turns (default 64 MiB); beyond it they are replayed when they go on.
	MaxResident int
	// RelaxedDurability leaves out the sync to disk at each commit: a crash of
	// the process still loses nothing, a crash of the machine or a power failure may lose
	// the last commits. Off by default.
	RelaxedDurability bool
	// Clock is the only source of time of the task hub (default: that of the machine).
	Clock backend.Clock
}

// NewSqliteOptions returns the defaults for a database file; "" is in memory.
func NewSqliteOptions(filePath string) *SqliteOptions {
	return &SqliteOptions{
		OrchestrationLockTimeout: 2 * time.Minute, ActivityLockTimeout: 2 * time.Minute, FilePath: filePath,
	}
}

// NewSqliteBackend returns a backend on a database that CreateTaskHub opens.
// Nil options are those of NewSqliteOptions(""). The value also implements
// the optional interfaces of package backend.
func NewSqliteBackend(opts *SqliteOptions, logger backend.Logger) backend.Backend {
	if opts == nil {
		opts = NewSqliteOptions("")
	}
	if logger == nil {
		logger = backend.DefaultLogger()
	}
	return engine.New(newStore(opts.FilePath, opts.RelaxedDurability), logger, engine.Options{
		Name: "sqlite::" + opts.FilePath, MaxPayload: opts.MaxPayload, MaxIDLength: opts.MaxIDLength,
		MaxResident: opts.MaxResident, Clock: opts.Clock,
	})
}

// OpenReader opens a database file for reading alone, while another process
// may own it: nothing is created, migrated or changed. The caller closes it.
// backend.ErrTaskHubNotFound where there is none.
func OpenReader(ctx context.Context, filePath string) (backend.Reader, error) {
	return engine.OpenReader(ctx, newStore(filePath, false), "sqlite::"+filePath)
}
