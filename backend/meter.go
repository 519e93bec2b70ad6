package backend

import (
	"time"

	"github.com/perdure/perdure/api/protos"
)

// WorkKind is what a work item is of.
type WorkKind string

// The kinds of work.
const (
	OrchestrationWork WorkKind = "orchestration"
	ActivityWork      WorkKind = "activity"
	EntityWork        WorkKind = "entity"
)

// WorkOutcome is how the processing of a work item ended.
type WorkOutcome string

// The outcomes of work items.
const (
	WorkDone      WorkOutcome = "done"
	WorkFailed    WorkOutcome = "failed"    // an activity, with a failure of its own; it is recorded
	WorkAbandoned WorkOutcome = "abandoned" // it is to be tried again
	WorkReturned  WorkOutcome = "returned"  // nobody had begun it
	WorkDropped   WorkOutcome = "dropped"   // its result is not wanted any more
)

// Meter is told what happens in a task hub. Its methods are called often, by
// many goroutines and with locks held: they must return at once and not call back.
type Meter interface {
	// Waited says that an item was ready for d before it was handed out.
	Waited(kind WorkKind, d time.Duration)
	// Ran says that an item was processed, from being handed out to its outcome.
	Ran(kind WorkKind, name string, outcome WorkOutcome, d time.Duration)
	// Finished says that an orchestration is over, d after it was created.
	Finished(name string, status protos.OrchestrationStatus, d time.Duration)
	// Committed says that a batch of so many operations was written, or was not.
	Committed(operations int, d time.Duration, err error)
	// TimerFired says that a timer fired, late by so much.
	TimerFired(late time.Duration)
}

// Metered is the optional interface of a Backend that can be measured.
type Metered interface {
	// SetMeter is called before CreateTaskHub.
	SetMeter(Meter)
	// Stats may be called at any time, and is cheap.
	Stats() Stats
}

// Stats is what a backend holds now.
type Stats struct {
	Live             int  // instances in memory
	Resident         int  // of these, those with their history
	ResidentBytes    int  // roughly what that takes
	Sleeping         int  // wake-ups to come, for timers, start times and pauses
	Turns            int  // that are handed out
	Activities       int  // that are handed out
	Entities         int  // batches that are handed out
	QueuedTurns      int  // ready, and not handed out
	QueuedActivities int  // the same
	QueuedEntities   int  // the same
	Owned            bool // this process owns the hub, and may hand out its work
	// NextDue is when the next sleeper wakes; zero for none.
	NextDue time.Time
}

// WithMeter has the worker tell m of the items that it processed.
func WithMeter(m Meter) NewTaskWorkerOptions {
	return func(o *WorkerOptions) { o.Meter = m }
}

// stopwatch measures the processing of one item.
type stopwatch struct {
	meter Meter
	since time.Time
	item  origin
}

func (w *taskWorker) stopwatch(item origin) stopwatch {
	if w.meter == nil || item.kind == "" {
		return stopwatch{}
	}
	return stopwatch{meter: w.meter, since: time.Now(), item: item}
}

func (s *stopwatch) stop(outcome WorkOutcome) {
	if s.meter != nil {
		s.meter.Ran(s.item.kind, s.item.name, outcome, time.Since(s.since))
	}
}
