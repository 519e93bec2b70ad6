// Package sidecar hands work items to the workers that are connected over gRPC.
// It knows protocol types only: no Backend, no storage, and not what an
// orchestration is.
//
// An item is queued, offered to one stream, and then done:
//
//	Orchestrator/Activity ─▶ queued ─▶ offered ─▶ done (answer)
//	                           ▲          │
//	                           └──────────┘ stream ended, abandoned, lease over
//	      the caller's context ends ─▶ dropped, in either state
//
// What always holds, under Dispatcher.mu:
//
//  1. An item is in the queue or belongs to one stream, never both; each offer has a token of its
//     own, so that an answer to an earlier offer is stale and changes nothing.
//  2. The queue is in the order in which the items came, also for those that came back.
//  3. A parked stream (idle) could take no item of the queue when it parked, and each event that may
//     change that (an item, freed credit, the end of an item's rest) looks again.
package sidecar
