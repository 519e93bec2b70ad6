// Package store is the seam between the engine and a database: record types
// and the Store interface that each driver implements.
//
// A driver persists records and knows no rules. It must not know what an
// orchestration is, compare a status, or supply a time or an id; the engine
// does that and knows no SQL. Of ours it imports the sentinels that users meet. Times are int64 microseconds since 1970-01-01 UTC; zero
// is "not set". Texts that may be absent are pointers, so that "" and "no
// value" stay apart.
package store

import (
	"context"
	"errors"

	"github.com/perdure/perdure/api"
)

// Errors that a driver returns, wrapped with what it was doing.
var (
	// ErrNotFound says that no instance has the key or id.
	ErrNotFound = errors.New("no such record")
	// ErrStaleEpoch says that another owner took the partitions since: the
	// batch was not written and the caller must drop what it holds in memory.
	ErrStaleEpoch = errors.New("the epoch of a partition is stale")
	// ErrCorrupt says that a stored record could not be decoded. It concerns
	// one instance alone.
	ErrCorrupt = api.ErrCorrupt
	// ErrSchemaTooNew says that a newer version of this program wrote the database.
	ErrSchemaTooNew = api.ErrSchemaTooNew
	// ErrLocked says that another process owns the database; the message names it.
	ErrLocked = api.ErrTaskHubLocked
	// ErrUnavailable says that the database cannot be read or written now.
	ErrUnavailable = api.ErrUnavailable
)

// Far is the due time of an instance that no timer will wake.
const Far = int64(1<<63 - 1)

// Instance is the row of one orchestration instance.
type Instance struct {
	Key         int64  // assigned by the engine in start order; used again only once no row has it
	ID          string // unique
	Partition   int32
	ExecutionID string
	Name        string
	Version     *string
	Status      int32 // protos.OrchestrationStatus
	Unfinished  bool  // false once Status is terminal: what the partial indexes are over

	CreatedAt   int64 // in nanoseconds, as the caller gave it; all other times are µs
	UpdatedAt   int64 // of this row; a read reports the newer of this and of the newest history row
	CompletedAt int64
	ScheduledAt int64

	// Due parks an unfinished instance: it has no open activity, and nothing
	// but an inbox message or this time (µs; Far for none) can wake it, so that
	// recovery need not load it. Zero: it is active, recovery must load it.
	Due int64
	// Attempts counts recoveries that found the instance active, since its last turn.
	Attempts int32

	ParentID   string
	ParentExec string
	ParentTask int32

	Tags         []byte // JSON object of strings, nil for none
	Failure      []byte // protobuf TaskFailureDetails, nil for none
	Stalled      string // why the instance was set aside; "" while it is not
	CustomStatus *string
	Input        *string
	Output       *string
}

// HistoryRow holds the events of one turn as length-delimited protobuf
// (a varint length before each HistoryEvent).
type HistoryRow struct {
	LSN    int64 // global, increasing; the rows of an instance in LSN order are its history
	Key    int64
	At     int64
	Events []byte
}

// InboxRow is one message that had to be durable before a turn consumed it.
type InboxRow struct {
	Seq   int64 // global, increasing; an instance's messages are delivered in Seq order
	Key   int64
	Event []byte // protobuf HistoryEvent
}

// Epoch is a claim of ownership: the batch may be written only while the
// partition's epoch is this one.
type Epoch struct {
	Partition int32
	Epoch     int64
}

// Truncate drops the history rows of an instance with an LSN below Before.
type Truncate struct {
	Key    int64
	Before int64
}

// Batch is what one transaction writes, in this order: the epochs are checked,
// then Delete, Truncate, Insert, Update, History, Inbox, Consume. The engine
// never puts two things into one batch that this order would turn around.
type Batch struct {
	Epoch    int64       // the owner's epoch of the whole hub, for stores with a single owner
	Epochs   []Epoch     // per partition, for stores with several owners
	Delete   []int64     // keys: the row, its history and its inbox
	Truncate []Truncate  // continue-as-new
	Insert   []*Instance // an id that exists fails the batch
	Update   []*Instance // by Key: every column but Key, ID, Partition, CreatedAt and Parent*; a row that is gone is skipped
	History  []HistoryRow
	Inbox    []InboxRow
	Consume  []int64 // inbox Seqs to delete; missing ones are no error
}

// Empty reports whether the batch writes nothing.
func (b *Batch) Empty() bool {
	return len(b.Delete)+len(b.Truncate)+len(b.Insert)+len(b.Update)+len(b.History)+len(b.Inbox)+len(b.Consume) == 0
}

// Marks are the highest values in use, from which the engine counts on.
type Marks struct {
	Key, LSN, Seq int64
	// Epoch was raised by the Open that returned it.
	Epoch int64
}

// DueKey is one parked instance with a finite due time.
type DueKey struct {
	Due, Key int64
}

// Filter selects instances; zero fields select all.
type Filter struct {
	Statuses    []int32
	IDPrefix    string // literal, no pattern characters
	NotPrefix   string // as IDPrefix: no id that begins so; "" excludes none
	Name        string
	CreatedFrom int64 // inclusive, in CreatedAt's unit
	CreatedTo   int64 // inclusive, in CreatedAt's unit; 0 for no bound
	// ByCompletion orders by (CompletedAt, ID), lists finished instances only
	// and uses the two bounds below; else the order is by Key.
	ByCompletion  bool
	CompletedFrom int64
	CompletedTo   int64
	AfterKey      int64  // resume after this key; 0 begins
	Newest        bool   // order by Key, the largest first; not with ByCompletion
	AfterTime     int64  // resume after (AfterTime, AfterID) when ByCompletion
	AfterID       string //
	ParentID      string // only children of this instance
	Payloads      bool   // read Input, Output and CustomStatus
	Limit         int
}

// Store is one task hub in one database. Its methods may be called by many
// goroutines; Commit is called by one at a time.
type Store interface {
	// Open opens the hub, creates or migrates it where needed and takes ownership
	// (raising the epoch). created says that the hub was not there before.
	// Errors: ErrSchemaTooNew, ErrLocked.
	Open(ctx context.Context) (created bool, m Marks, err error)
	// Close releases everything. What an in-memory store holds survives until Destroy.
	Close() error
	// Destroy closes and deletes the hub; ErrNotFound where there was none.
	Destroy(ctx context.Context) error

	// Commit writes the batch atomically and durably. After an error, other
	// than ErrStaleEpoch, the outcome may be unknown: ask Committed.
	Commit(ctx context.Context, b *Batch) error
	// Committed reports whether a batch whose Commit failed was written all
	// the same. A batch is recognised by its first History, Insert or Inbox
	// row; one with none of these is reported as not written, as it may be
	// written twice. ErrStaleEpoch: the rows may be those of a later owner.
	Committed(ctx context.Context, b *Batch) (bool, error)

	// ByID and ByKey read one row, payloads included, or ErrNotFound.
	ByID(ctx context.Context, id string) (*Instance, error)
	ByKey(ctx context.Context, key int64) (*Instance, error)
	// History calls f for each history row of the instance with an LSN above
	// after, in order, until f fails.
	History(ctx context.Context, key, after int64, f func(HistoryRow) error) error
	// Inbox reads the messages of the instance in order.
	Inbox(ctx context.Context, key int64) ([]InboxRow, error)

	// Active lists the keys, above after, of the instances that recovery must
	// look at: unfinished and not parked, or with a message in the inbox.
	Active(ctx context.Context, after int64, limit int) ([]int64, error)
	// DueBefore lists parked instances above after in (Due, Key) order, without those at Far.
	DueAfter(ctx context.Context, after DueKey, limit int) ([]DueKey, error)
	// Query lists instances.
	Query(ctx context.Context, f Filter) ([]*Instance, error)
}

// Counter is the optional interface of a Store that counts without reading rows.
type Counter interface {
	// Count says how many instances match, by status. Order, paging and Limit do not count.
	Count(ctx context.Context, f Filter) (map[int32]int64, error)
}

// Checker is the optional interface of a Store that knows whether it would take a batch now.
type Checker interface {
	// Check says why a commit would fail. Where write is set it tries one that
	// changes nothing; else it only looks at what costs next to nothing.
	Check(ctx context.Context, write bool) error
}

// ReadOpener is the optional interface of a Store that can be read without
// being owned.
type ReadOpener interface {
	// OpenRead opens the hub for reading alone, while another process may own
	// it. It creates and migrates nothing. Close releases it.
	// Errors: ErrNotFound, ErrSchemaTooNew.
	OpenRead(ctx context.Context) error
}
