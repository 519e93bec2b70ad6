// Package engine is the durable core: it implements backend.Backend, and its
// optional interfaces, over a store.Store.
//
// It must not know SQL, user code, or the wire.
//
// # Who owns what
//
// The engine's mutex guards all live state: instances, their inboxes and open
// tasks, the ready queues, waiters and timers. It is held for memory
// operations only, never over a read or a write of the store. The runtime
// state of an instance belongs to whoever holds its work item, and to the
// engine while nobody does. The lane's own mutex guards the queue of operations;
// it may be taken under the engine's mutex, never the other way round.
//
// # The commit pipeline
//
// Every change is an operation in the lane. The submitter that finds no leader
// leads: it takes all that is queued, builds one batch, commits it and applies
// the outcome in lane order, while the next batch gathers behind it; then the
// first of those who wait leads. Nothing is acknowledged, started or delivered before
// the batch that holds it is durable.
//
// # Early turns
//
// A message that an idle worker can take at once is not written on its own:
// it is held in memory and becomes durable with the turn that consumes it, and only
// then its sender is answered. Where that does not happen within holdLimit it
// gets a record of its own in the inbox.
package engine
