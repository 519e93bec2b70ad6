// Package postgres keeps a task hub in a PostgreSQL database (13 or newer), in a schema of its own.
//
//	opts, err := postgres.NewPostgresOptionsFromURL("postgres://app:secret@db.example/app?schema=orders")
//	be := postgres.NewPostgresBackend(opts, backend.DefaultLogger())
//
// The driver persists records and knows no rules: it must not know what an
// orchestration is, compare a status, or supply a time or an id. The one time
// that the database supplies is that of the lease.
//
// # Tables
//
//	owner      one row: who may write (epoch and gate), and until when (lease_until, by database time)
//	instances  a row per orchestration instance; partial indexes over the active, the parked and the finished ones
//	history    a row per turn, by instance and LSN
//	inbox      the messages that no turn has consumed yet, by sequence number
//
// Free text is stored as bytea, as PostgreSQL's text cannot hold a NUL;
// only ids, which the engine has checked, are text.
//
// # The fence
//
// Every commit is one pipelined round trip and one implicit transaction. It
// begins with a share lock on the owner row by its key (epoch, gate), and fails
// where that row is gone. A takeover changes the key, so it waits for the commit
// in flight, and every later commit of the old owner fails. Asking what became
// of a commit whose answer was lost changes the gate in the same manner, so that
// the lost commit cannot arrive afterwards. Renewing the lease changes no key and waits for nothing.
//
// # Connections
//
// No state of a session is used (no LISTEN, no advisory lock, no SET beyond a
// transaction), so that a transaction-pooling proxy may stand between; see
// NewPostgresOptionsFromURL for the setting that it needs. One connection of the
// pool is kept for commits; reads and lease renewals share the others.
package postgres
