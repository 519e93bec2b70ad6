package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/backend/internal/store"
)

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// SQLSTATEs that mean something here.
const (
	divisionByZero   = "22012" // only the fence divides
	uniqueViolation  = "23505"
	dataCorrupted    = "XX001"
	indexCorrupted   = "XX002"
	internalError    = "XX000"
	duplicateSchema  = "42P06"
	duplicateTable   = "42P07"
	duplicateObject  = "42710"
	serialization    = "40001"
	deadlock         = "40P01"
	tooManyConns     = "53300"
	diskFull         = "53100"
	noPrivilege      = "42501"
	badPassword      = "28P01"
	noAuthorization  = "28000"
	noDatabase       = "3D000"
	readOnly         = "25006"
	preparedNotThere = "26000"
	preparedIsThere  = "42P05"
)

// advice says what people can do about an error of the server.
var advice = map[string]string{
	tooManyConns:     "the server has no connection left: lower pool_max_conns or raise max_connections",
	diskFull:         "the server's disk is full: free space, nothing else is needed",
	noPrivilege:      "grant the user CREATE on the database, or create the schema for it",
	badPassword:      "check user and password",
	noAuthorization:  "check user and pg_hba.conf",
	noDatabase:       "create the database first; the schema in it is made by the program",
	readOnly:         "this is a standby: name the primary, or add target_session_attrs=read-write",
	preparedNotThere: "a proxy pools transactions: add default_query_exec_mode=cache_describe to the connection string",
	preparedIsThere:  "a proxy pools transactions: add default_query_exec_mode=cache_describe to the connection string",
}

func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// describe says in terms of the store what an error of the server or of the
// connection means, and adds what can be done about it.
func describe(err error) error {
	if err == nil || said(err) {
		return err
	}
	code := codeOf(err)
	if advice[code] != "" {
		err = fmt.Errorf("%w (%s)", err, advice[code])
	}
	switch {
	case code == dataCorrupted || code == indexCorrupted:
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	case code == "" || code == readOnly || slices.ContainsFunc(outages, func(class string) bool { return strings.HasPrefix(code, class) }):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// outages are the classes of errors that pass, or that an operator can mend:
// of the connection, of resources, of operators who intervene, of the system,
// of credentials and of databases that are not there.
var outages = []string{"08", "53", "57P", "58", "28", "3D"}

// said reports whether an error says what it means already; what is neither
// that nor an error of the server comes from the connection.
func said(err error) bool {
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, store.ErrNotFound, store.ErrStaleEpoch, store.ErrCorrupt,
		store.ErrSchemaTooNew, store.ErrLocked, store.ErrUnavailable,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// madeMeanwhile reports whether another session made the same object at the same moment.
func madeMeanwhile(err error) bool {
	switch codeOf(err) {
	case uniqueViolation, duplicateSchema, duplicateTable, duplicateObject, internalError:
		return true
	}
	return false
}

// lostAnswer reports whether it is open what became of a commit: the
// connection broke, or the server ended the session.
func lostAnswer(err error) bool {
	var pg *pgconn.PgError
	if err == nil || errors.Is(err, store.ErrStaleEpoch) {
		return false
	}
	return !errors.As(err, &pg) || strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
}

// rolledBack reports whether the server undid the transaction because others were in its way.
func rolledBack(err error) bool {
	code := codeOf(err)
	return code == serialization || code == deadlock
}

func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, describe(err))
}
