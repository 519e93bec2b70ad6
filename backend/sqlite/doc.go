// Package sqlite keeps a task hub in one SQLite file, or in memory, inside the
// process: no server, no cgo, every commit synced to disk before it is acknowledged.
//
//	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions("orders.db"), backend.DefaultLogger())
//
// The driver persists records and knows no rules: it must not know what an
// orchestration is. The file holds four tables: meta (the owner's epoch), instances, history (one row a turn) and inbox.
//
// One process owns a file at a time, through a lock on a file beside it that
// names the owner; any other process may open the database read-only while it
// runs. One connection writes, in the hands of whoever commits; a few others
// read, each in the hands of one call at a time. In memory one connection does both.
package sqlite
