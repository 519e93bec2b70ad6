// Package task is what authors write against: the registry of orchestrators
// and activities, the [OrchestrationContext] through which an orchestrator
// talks to the engine, and the executor that runs both kinds of code. It knows
// history events and actions; it knows no store, no worker and no clock.
//
// # One turn
//
//	events of the turn          user code                  response
//	───────────────────▶ step ─▶ runs until its Await ─▶ new actions, by id
//	                      ▲      has no event left
//	                      └──────────┘
//
// An orchestrator runs in a goroutine of its own, its coroutine. Await takes
// the events of the turn one by one, in order, until its task is done; user
// code goes on right after the event that completed the task. When no event is
// left the coroutine yields and stays blocked inside Await. The next turn
// either hands it the new events only, or, where the coroutine is gone,
// replays the whole history into a new one. Both give the same actions.
//
// # Who owns which state
//
//  1. An OrchestrationContext and all it holds is touched by one goroutine at
//     a time: the coroutine while it runs, the caller of the executor
//     otherwise. The channels of the coroutine hand it over; there is no lock.
//     User code must not use it, or a [Task], from another goroutine.
//  2. A resident context belongs to the continuation in the runtime state. The
//     continuation's mutex orders its turns and its Stop.
//  3. An orchestrator must not block on anything but Await. Goroutines that it
//     starts are not its own: a panic in one of them ends the process.
//
// # What holds always
//
//  1. Action ids count from 0 per execution, in the order of the calls and of
//     the events that cause a retry. Actions leave in the order of their ids.
//  2. Results are matched by id and kind. Unknown ones are ignored.
//  3. History confirms each action of a recorded turn by an event of the same
//     id, kind and name before the next turn starts. Any difference fails the
//     instance with [ErrorTypeNonDeterminism]; nothing panics.
//  4. A coroutine is unwound with runtime.Goexit: deferred functions run with
//     IsReplaying set, nothing can recover it, and its calls have no effect.
//     A deferred function that blocks for ever blocks the Stop.
//  5. User code that panics or calls runtime.Goexit fails its task or its
//     instance, with the stack.
//  6. Actions issued before ContinueAsNew take effect. Activities among them
//     run; their results are ignored.
package task
