// Package client talks to a task hub that another process serves, over gRPC,
// and runs Go orchestrators and activities for it.
//
// [TaskHubGrpcClient] has the names of durabletask-go's package of the same
// name. [NewClient] returns the same client as a [backend.Client], so that code
// written for a hub in its own process works with a remote one. Errors wrap
// the same sentinels as in process; test for them with [errors.Is].
//
//	server ──GetWorkItems──▶ listener ─▶ one goroutine an item ─▶ task executor
//	       ◀──Complete…Task─────────────────────────────────────────┘
//
// A listener reconnects for ever. Its items belong to the stream that brought
// them: what runs when a stream breaks goes on, and its late result changes
// nothing, because the server has given the item to others since. When the
// context of the listener ends it drains: what runs may end, what still comes
// is given back.
//
// The package knows the wire and package task; it knows no engine and no store.
package client
