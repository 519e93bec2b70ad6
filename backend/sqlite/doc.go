// Package sqlite keeps a task hub in one SQLite file, or in memory, inside the
// process: no server, no cgo, every commit synced to disk before it is acknowledged.
//
//	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions("orders.db"), backend.DefaultLogger())
//
// The driver persists records and knows no rules: it must not know what an
// orchestration is, compare a status, or supply a time or an id.
//
// # Tables
//
//	meta       one row: the epoch, raised by each Open and checked by each commit
//	instances  a row per orchestration instance, payload columns last; partial
//	           indexes over the active, the parked and the finished ones
//	history    a row per turn by LSN, found through an index on the instance's key
//	inbox      the messages that no turn has consumed yet, by sequence number
//
// The schema is that of the files in migrations. LSNs and sequence numbers go
// on from the highest that is stored, so a number comes again only when no
// table has a row with it.
//
// # Connections
//
// One process owns a file at a time, through a lock on a file beside it that
// names the owner; any other process may open the database read-only while it
// runs. Symbolic links to a file share its lock.
//
//   - db.life is held to read by every call and to write by Open, Close and
//     Destroy, which thereby wait for the calls that run.
//   - One connection writes, under db.write, in the hands of whoever commits.
//   - A few others read, each in the hands of one call at a time, taken from db.reads.
//   - In memory the writing connection does both and outlives Close.
//
// A context stops a statement that runs, and a commit up to the moment when its COMMIT begins.
package sqlite
