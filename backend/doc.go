// Package backend is the contract of a durable task hub: the Backend interface
// with its small optional companions, the runtime state of an orchestration,
// the workers that execute turns and activities, the client, and the executor
// that hands work to remote workers over gRPC.
//
// It knows no store and no engine: backend/internal/engine implements Backend,
// and a constructor such as sqlite.NewSqliteBackend joins it with a driver.
//
// A turn is a pure function between two commits. The worker fetches an
// OrchestrationWorkItem, adds its messages to its OrchestrationRuntimeState,
// lets the executor decide, applies the decisions to the state, and hands
// the item back to be stored whole. The state belongs to whoever holds the item.
// Workers own their goroutines: an idle worker holds one, a busy one at most as
// many as it may process items at a time, and none is left after StopAndDrain.
package backend
