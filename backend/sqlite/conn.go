package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

// conn is one connection with the statements that it has prepared.
type conn struct {
	c     *sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

func newConn(c *sqlite3.Conn) *conn { return &conn{c: c, stmts: map[string]*sqlite3.Stmt{}} }

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.c.Close())...)
}

// maxStmts bounds the prepared statements that queries of many shapes leave behind.
const maxStmts = 200

func (c *conn) prepare(sql string) (*sqlite3.Stmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	if len(c.stmts) >= maxStmts {
		for k, s := range c.stmts {
			delete(c.stmts, k)
			_ = s.Close() // it is not in use, and its last run was answered for
			break
		}
	}
	s, _, err := c.c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, wrap(err)
	}
	c.stmts[sql] = s
	return s, nil
}

func bind(s *sqlite3.Stmt, args []any) error {
	for n, a := range args {
		var err error
		switch v := a.(type) {
		case int64:
			err = s.BindInt64(n+1, v)
		case int32:
			err = s.BindInt64(n+1, int64(v))
		case int:
			err = s.BindInt64(n+1, int64(v))
		case bool:
			err = s.BindBool(n+1, v)
		case string:
			err = s.BindText(n+1, v)
		case *string:
			if v == nil {
				err = s.BindNull(n + 1)
			} else {
				err = s.BindText(n+1, *v)
			}
		case []byte:
			if v == nil {
				err = s.BindNull(n + 1)
			} else {
				err = s.BindBlob(n+1, v)
			}
		default:
			err = fmt.Errorf("argument %d is %T", n, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// query runs a statement and calls f for each row.
func (c *conn) query(sql string, args []any, f func(*sqlite3.Stmt) error) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	if err := bind(s, args); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	for s.Step() {
		if err := f(s); err != nil {
			return errors.Join(err, s.Reset())
		}
	}
	err = s.Err()
	if rerr := s.Reset(); err == nil {
		err = rerr
	}
	return wrap(err)
}

func (c *conn) exec(sql string, args ...any) error {
	return c.query(sql, args, func(*sqlite3.Stmt) error { return nil })
}

// tx runs f in a transaction that takes the write lock first. A ctx that ends
// stops it up to the COMMIT; this and the ROLLBACK run in any case, or
// the connection would stay in the transaction.
func (c *conn) tx(ctx context.Context, f func() error) error {
	err := c.during(ctx, func() error {
		if err := c.begin(); err != nil {
			return err
		}
		return f()
	})
	if err == nil {
		err = c.exec(`COMMIT`)
	}
	if err != nil && !c.c.GetAutocommit() {
		err = errors.Join(err, c.exec(`ROLLBACK`))
	}
	return err
}

// begin takes the write lock, which a program that came with a writing client of its own may hold.
func (c *conn) begin() (err error) {
	for range busyTries {
		if err = c.exec(`BEGIN IMMEDIATE`); !errors.Is(err, sqlite3.BUSY) || c.c.GetInterrupt().Err() != nil {
			return err
		}
	}
	return fmt.Errorf("another program holds the write lock: %w", err)
}

// during runs f, whose statements stop when ctx ends.
func (c *conn) during(ctx context.Context, f func() error) error {
	defer c.c.SetInterrupt(c.c.SetInterrupt(ctx))
	err := f()
	if cerr := ctx.Err(); cerr != nil && (errors.Is(err, sqlite3.INTERRUPT) || errors.Is(err, sqlite3.BUSY)) {
		err = fmt.Errorf("%w: %w", cerr, err)
	}
	return err
}

// wrap marks what SQLite says of a damaged file, and of one that it cannot use now.
func wrap(err error) error {
	var code sqlite3.ErrorCode
	if !errors.As(err, &code) {
		return err
	}
	switch code {
	case sqlite3.CORRUPT, sqlite3.NOTADB:
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	case sqlite3.BUSY, sqlite3.FULL, sqlite3.READONLY, sqlite3.IOERR, sqlite3.CANTOPEN, sqlite3.PERM, sqlite3.NOMEM:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// wrapOpen says why a file cannot be opened or deleted in terms that users can test for:
// what is no refusal of ours comes from SQLite or from the operating system.
func wrapOpen(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, known := range []error{store.ErrNotFound, store.ErrLocked, store.ErrSchemaTooNew, store.ErrCorrupt, store.ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	if marked := wrap(err); errors.Is(marked, store.ErrCorrupt) {
		return marked
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

func optional(s *sqlite3.Stmt, col int) *string {
	if s.ColumnType(col) == sqlite3.NULL {
		return nil
	}
	v := s.ColumnText(col)
	return &v
}

func blob(s *sqlite3.Stmt, col int) []byte {
	if s.ColumnType(col) == sqlite3.NULL {
		return nil
	}
	return append([]byte{}, s.ColumnRawBlob(col)...)
}
