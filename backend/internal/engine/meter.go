package engine

import (
	"time"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// SetMeter has the engine tell m what happens.
func (e *Engine) SetMeter(m backend.Meter) { e.meter = m }

// unmetered is the meter of an engine that is not measured.
type unmetered struct{}

func (unmetered) Waited(backend.WorkKind, time.Duration)                           {}
func (unmetered) Ran(backend.WorkKind, string, backend.WorkOutcome, time.Duration) {}
func (unmetered) Finished(string, protos.OrchestrationStatus, time.Duration)       {}
func (unmetered) Committed(int, time.Duration, error)                              {}
func (unmetered) TimerFired(time.Duration)                                         {}

// Stats counts what is in memory.
func (e *Engine) Stats() backend.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := backend.Stats{
		Live: len(e.byID), Resident: e.idlers.Len() + e.turns, ResidentBytes: e.resident, Sleeping: len(e.wakes),
		Turns: e.turns, Activities: len(e.running), Entities: e.batches,
		QueuedTurns: e.ready.len(), QueuedActivities: e.queue.len(), QueuedEntities: e.entities.len(),
		Owned: !e.closed && !e.fenced,
	}
	if len(e.wakes) > 0 {
		s.NextDue = time.UnixMicro(e.wakes[0].Due)
	}
	return s
}

// since is how long ago a moment of the engine's clock is.
func (e *Engine) since(us int64) time.Duration {
	return time.Duration(max(e.now()-us, 0)) * time.Microsecond
}
