package postgres

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
)

// PostgresOptions are the settings of a PostgreSQL backend.
type PostgresOptions struct {
	// PgOptions are the settings of the connection pool. At least two
	// connections are used, whatever MaxConns says.
	PgOptions *pgxpool.Config
	// OrchestrationLockTimeout and ActivityLockTimeout are kept so that older
	// code compiles. Work items are not locked by time here: a process owns its
	// work as long as its Lease.
	OrchestrationLockTimeout time.Duration
	ActivityLockTimeout      time.Duration
	// Schema is the database schema that holds the task hub (default
	// "perdure"): lower case letters, digits and underscores, at most 48. Hubs in
	// different schemas know nothing of each other.
	Schema string
	// Lease is how long a process that died keeps others from its work (default
	// 3 s, at least 500 ms). It is renewed three times in that time.
	Lease time.Duration
	// MaxPayload is the limit of one payload in bytes (default 4 MiB).
	MaxPayload int
	// MaxIDLength is the limit of the instance ids that callers give, in
	// characters (default 100, at most 1,024); 1,024 bytes are the limit in any case.
	MaxIDLength int
	// MaxResident is roughly how much memory, in bytes, idle orchestrations may
	// keep between turns (default 64 MiB); beyond it they are replayed when they go on.
	MaxResident int
	// RelaxedDurability commits without waiting for the server's disk: a crash
	// of this process still loses nothing, a crash of the server may lose the
	// last commits. Off by default; then commits wait, even where the server's own default is not to.
	RelaxedDurability bool

	err error // why the settings cannot be used; CreateTaskHub returns it
}

const (
	defaultSchema = "perdure"
	defaultConns  = 8
	defaultLease  = 3 * time.Second
	minLease      = 500 * time.Millisecond
)

// NewPostgresOptions returns the defaults for a server. The host may be a name, an
// address, or the folder of a Unix socket.
func NewPostgresOptions(host string, port uint16, database string, user string, password string) *PostgresOptions {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	o, err := NewPostgresOptionsFromURL(fmt.Sprintf("host=%s port=%d dbname=%s user=%s password=%s",
		quote(host), port, quote(database), quote(user), quote(password)))
	if err != nil {
		return &PostgresOptions{err: err}
	}
	return o
}

// NewPostgresOptionsFromURL returns the defaults for a connection string: a
// postgres:// URL or key=value words, with the names of libpq, pgx
// (pool_max_conns, default_query_exec_mode, …) and, of our own,
//
//	schema   the schema of the task hub
//	lease    how long a dead process keeps its work, such as 3s
//
// Behind a proxy that pools transactions, add default_query_exec_mode=cache_describe,
// unless the proxy knows prepared statements. Errors: api.ErrInvalidInput.
func NewPostgresOptionsFromURL(connString string) (*PostgresOptions, error) {
	conf, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("%w: connection string: %w", api.ErrInvalidInput, err)
	}
	if !strings.Contains(connString, "pool_max_conns") {
		conf.MaxConns = defaultConns
	}
	o := &PostgresOptions{
		PgOptions: conf, OrchestrationLockTimeout: 2 * time.Minute, ActivityLockTimeout: 2 * time.Minute,
		Schema: defaultSchema, Lease: defaultLease,
	}
	params := conf.ConnConfig.RuntimeParams // what pgx does not know would go to the server
	if s, ok := params["schema"]; ok {
		o.Schema = s
		delete(params, "schema")
	}
	if s, ok := params["lease"]; ok {
		if o.Lease, err = time.ParseDuration(s); err != nil {
			return nil, fmt.Errorf("%w: connection string: lease: %w", api.ErrInvalidInput, err)
		}
		delete(params, "lease")
	}
	return o, o.validate()
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

func (o *PostgresOptions) validate() error {
	switch {
	case o.err != nil:
		return o.err
	case o.PgOptions == nil:
		return fmt.Errorf("%w: PgOptions is nil", api.ErrInvalidInput)
	case !schemaName.MatchString(o.Schema) || strings.HasPrefix(o.Schema, "pg_"):
		return fmt.Errorf("%w: schema %q: lower case letters, digits and underscores are allowed, at most 48, and no pg_ in front",
			api.ErrInvalidInput, o.Schema)
	case o.Lease < minLease:
		return fmt.Errorf("%w: lease %v, the least is %v", api.ErrInvalidInput, o.Lease, minLease)
	}
	return nil
}

// NewPostgresBackend returns a backend on a database that CreateTaskHub opens.
// Nil options are those of NewPostgresOptions("localhost", 5432, "postgres", "postgres", "postgres").
// The value also implements the optional interfaces of package backend.
func NewPostgresBackend(opts *PostgresOptions, logger backend.Logger) backend.Backend {
	if opts == nil {
		opts = NewPostgresOptions("localhost", 5432, "postgres", "postgres", "postgres")
	}
	if logger == nil {
		logger = backend.DefaultLogger()
	}
	o := *opts
	if o.Schema == "" {
		o.Schema = defaultSchema
	}
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	return engine.New(newStore(&o, logger), logger, engine.Options{
		Name: o.name(), MaxPayload: o.MaxPayload, MaxIDLength: o.MaxIDLength, MaxResident: o.MaxResident,
	})
}

// name tells people which hub this is, without the password.
func (o *PostgresOptions) name() string {
	if o.PgOptions == nil {
		return "postgres::"
	}
	c := o.PgOptions.ConnConfig
	return "postgres::" + c.Host + ":" + strconv.Itoa(int(c.Port)) + "/" + c.Database + "/" + o.Schema
}

// holder is what the owner row says of this process.
func holder() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("process %d on %s", os.Getpid(), host)
}

// OpenReader opens a task hub for reading alone, while other processes may own
// it: nothing is created, migrated or changed. The caller closes it.
// backend.ErrTaskHubNotFound where there is none.
func OpenReader(ctx context.Context, opts *PostgresOptions, logger backend.Logger) (backend.Reader, error) {
	return engine.OpenReader(ctx, newStore(opts, logger), opts.name())
}
