package sqlite

import (
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
		return err
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

// tx runs f in a transaction that takes the write lock first.
func (c *conn) tx(f func() error) error {
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = c.exec(`COMMIT`)
	}
	if err != nil && !c.c.GetAutocommit() {
		err = errors.Join(err, c.exec(`ROLLBACK`))
	}
	return err
}

// wrap marks what SQLite says of a damaged file.
func wrap(err error) error {
	if errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return err
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
