package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/postgres"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/client"
	"github.com/spf13/cobra"
)

// reader is what the commands that change nothing need. A backend.Client is one.
type reader interface {
	FetchOrchestrationMetadata(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error)
	WaitForOrchestrationStart(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error)
	WaitForOrchestrationCompletion(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error)
	Query(context.Context, api.InstanceQuery) (*api.InstancePage, error)
	backend.InstanceCounter
	History(context.Context, api.InstanceID, func([]*backend.HistoryEvent) error) error
}

// target says which task hub a command talks to.
type target struct {
	server, db string
	dial       dialFlags
}

func (t *target) serverFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.server, "server", cmp.Or(os.Getenv("PERDURE_SERVER"), "127.0.0.1:4001"),
		"gRPC address of the server (PERDURE_SERVER)")
	t.dial.flags(cmd)
}

func (t *target) flags(cmd *cobra.Command) {
	t.serverFlag(cmd)
	cmd.Flags().StringVar(&t.db, "db", "", "instead of a server: a SQLite file or a postgres:// URL")
	cmd.MarkFlagsMutuallyExclusive("server", "db")
}

// unreachableError says that there is no answer from the server.
type unreachableError struct{ error }

func (e unreachableError) Unwrap() error { return e.error }

// helloTimeout bounds how long a command waits for a server that is not there.
const helloTimeout = 5 * time.Second

// read runs f with a reader of the hub. A database is opened to read only, and
// so may be owned by a server.
func (t *target) read(ctx context.Context, f func(reader) error) (err error) {
	if t.db == "" {
		return t.remote(ctx, func(c *client.TaskHubGrpcClient) error { return f(c.Client()) })
	}
	r, err := openReader(ctx, t.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return f(dbReader{r})
}

// manage runs f with a client of the hub. A database is taken over for the
// time of the command, so no server may own it.
func (t *target) manage(ctx context.Context, f func(backend.Client) error) (err error) {
	if t.db == "" {
		return t.remote(ctx, func(c *client.TaskHubGrpcClient) error { return f(c.Client()) })
	}
	r, err := openReader(ctx, t.db)
	if errors.Is(err, backend.ErrTaskHubNotFound) {
		return err // a typing error must not make a hub
	}
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		return err
	}
	return ownDB(ctx, t.db, func(be backend.Backend) error { return f(backend.NewClient(be)) })
}

// ownDB runs f with the task hub of a database, which is made where there is none.
func ownDB(ctx context.Context, db string, f func(backend.Backend) error) (err error) {
	be, err := openBackend(db, backend.NewLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	if err := be.CreateTaskHub(ctx); err != nil && !errors.Is(err, backend.ErrTaskHubExists) {
		return fmt.Errorf("%w\nwhere a server owns it, use --server", err)
	}
	defer func() { err = errors.Join(err, be.Stop(context.WithoutCancel(ctx))) }()
	return f(be)
}

// remote runs f with a client of the server, once that has answered.
func (t *target) remote(ctx context.Context, f func(*client.TaskHubGrpcClient) error) (err error) {
	cc, err := t.dial.connect(t.server)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, cc.Close()) }()
	c := client.NewTaskHubGrpcClient(cc, backend.NewLogger(slog.New(slog.DiscardHandler)))
	hello, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	if err := c.Hello(hello); err != nil {
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return ctx.Err()
		case code != codes.Unavailable && code != codes.Unknown && hello.Err() == nil:
			return fmt.Errorf("server %s: %w", t.server, err)
		}
		return unreachableError{fmt.Errorf("no server answers at %s: %w", t.server, err)}
	}
	return f(c)
}

// openReader opens a database without owning it.
func openReader(ctx context.Context, db string) (backend.Reader, error) {
	if scheme, _, isURL := strings.Cut(db, "://"); isURL && (scheme == "postgres" || scheme == "postgresql") {
		opts, err := postgres.NewPostgresOptionsFromURL(db)
		if err != nil {
			return nil, usageError{fmt.Errorf("--db: %w", err)}
		}
		return postgres.OpenReader(ctx, opts, backend.NewLogger(slog.New(slog.DiscardHandler)))
	}
	return sqlite.OpenReader(ctx, db)
}

// dbReader reads a database that another process may be writing.
type dbReader struct{ backend.Reader }

func (r dbReader) FetchOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	return r.GetOrchestrationMetadata(ctx, id)
}

func (r dbReader) Query(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	return r.QueryInstances(ctx, q)
}

func (r dbReader) History(ctx context.Context, id api.InstanceID, f func([]*backend.HistoryEvent) error) error {
	return r.ReadHistory(ctx, id, f)
}

func (r dbReader) WaitForOrchestrationStart(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	return r.wait(ctx, id, func(m *api.OrchestrationMetadata) bool { return m.RuntimeStatus != api.RUNTIME_STATUS_PENDING })
}

func (r dbReader) WaitForOrchestrationCompletion(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	return r.wait(ctx, id, (*api.OrchestrationMetadata).IsComplete)
}

// lookInterval is how often a database is looked at that tells nobody of changes.
const lookInterval = 200 * time.Millisecond

func (r dbReader) wait(
	ctx context.Context, id api.InstanceID, done func(*api.OrchestrationMetadata) bool,
) (*api.OrchestrationMetadata, error) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		m, err := r.GetOrchestrationMetadata(ctx, id)
		if err != nil || done(m) {
			return m, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// argument reads a text given as such, as @file, or as - from standard input.
func argument(in io.Reader, s string) (string, error) {
	var data []byte
	var err error
	if s == "-" {
		data, err = io.ReadAll(in)
	} else if name, ok := strings.CutPrefix(s, "@"); ok {
		data, err = os.ReadFile(name)
	} else {
		return s, nil
	}
	if err != nil {
		return "", usageError{err}
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}
