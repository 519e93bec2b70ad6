package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// ExplainInstance says why an instance does not move, from what is stored and
// what is in memory.
func (e *Engine) ExplainInstance(ctx context.Context, id api.InstanceID) (*api.Verdict, error) {
	return e.explain(ctx, id, e.look)
}

// glance is what memory knows of an instance. Times are in µs, 0 for "not so".
type glance struct {
	held     bool
	pause    int64
	queued   int64
	turn     int64
	done     int64
	terminal bool // a terminate waits
	tasks    map[int32]taskGlance
	waiter   backend.Waiter
	broken   error
	lane     int
	now      int64
}

type taskGlance struct {
	since   int64
	out     bool
	attempt int32
}

func (e *Engine) look(id api.InstanceID) glance {
	e.lane.mu.Lock()
	lane := len(e.lane.queue)
	e.lane.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	g := glance{now: e.now(), broken: e.broken, lane: lane}
	i := e.byID[string(id)]
	if i == nil || i.loading != nil {
		return g
	}
	g.held, g.pause, g.terminal = i.held, i.pause, i.hasTerminate()
	if i.ready {
		g.queued = i.queued
	}
	if i.turn != nil {
		g.turn, g.done = i.turn.since, i.turn.done
	} else if i.state != nil {
		g.waiter, _ = i.state.Continuation().(backend.Waiter)
	}
	g.tasks = map[int32]taskGlance{}
	for id, t := range i.tasks {
		g.tasks[id] = taskGlance{t.since, t.item != nil, t.attempt}
	}
	return g
}

func (e *Engine) explain(ctx context.Context, id api.InstanceID, look func(api.InstanceID) glance) (*api.Verdict, error) {
	row, err := e.row(ctx, id)
	if err != nil {
		return nil, err
	}
	g := look(id)
	v := &api.Verdict{InstanceID: id, Status: api.StatusName(api.OrchestrationStatus(row.Status))}
	if e.explainWhole(v, row, g) {
		return v, nil
	}
	var p open
	err = e.st.History(ctx, row.Key, 0, func(r store.HistoryRow) error {
		events, err := decodeEvents(r.Events)
		for _, ev := range events {
			p.add(ev)
		}
		return err
	})
	if errors.Is(err, store.ErrCorrupt) {
		v.Reason, v.Summary = api.WaitStalled, fmt.Sprintf("its history cannot be read: %v", err)
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", id, err)
	}
	v.Waits = p.waits(g)
	for n := range v.Waits { // an activity without a version counts as of its orchestration's
		v.Waits[n].Version = cmp.Or(v.Waits[n].Version, deref(row.Version))
	}
	if row.Status == int32(api.RUNTIME_STATUS_SUSPENDED) {
		if len(v.Waits) > 0 {
			v.Conclude()
		}
		v.Reason, v.Since, v.Until = api.WaitSuspended, p.suspended, time.Time{}
		v.Summary = "suspended, since " + api.Clock(p.suspended)
		if p.reason != "" {
			v.Summary += ": " + p.reason
		}
		return v, nil
	}
	if len(v.Waits) == 0 {
		v.Waits = []api.Wait{{Reason: api.WaitEvent, TaskID: -1, Since: p.last}}
	}
	v.Conclude()
	return v, nil
}

// explainWhole finds what concerns the instance as a whole, and needs no look at its history.
func (e *Engine) explainWhole(v *api.Verdict, row *store.Instance, g glance) bool {
	set := func(r api.WaitReason, since, until int64, format string, args ...any) bool {
		v.Reason, v.Since, v.Until = r, timeOf(since), timeOf(until)
		v.Summary = fmt.Sprintf(format, args...)
		return true
	}
	switch {
	case !row.Unfinished:
		return set(api.WaitNothing, row.CompletedAt, 0, "it is %s%s", v.Status, sinceText(row.CompletedAt))
	case row.Stalled != "":
		return set(api.WaitStalled, row.UpdatedAt, 0, "set aside: %s", row.Stalled)
	case g.held && !g.terminal:
		return set(api.WaitSuspect, 0, 0, "held back: %d times a process died while it was active; it is tried alone", row.Attempts)
	case g.pause > g.now:
		why := "the last commit failed"
		if g.broken != nil {
			why = fmt.Sprintf("the last commit failed: %v", g.broken)
		}
		return set(api.WaitStore, 0, g.pause, "%s; it goes on at %s", why, api.Clock(timeOf(g.pause)))
	case row.Status == int32(api.RUNTIME_STATUS_PENDING) && row.ScheduledAt > max(g.now, e.now()):
		return set(api.WaitScheduled, row.CreatedAt/1000, row.ScheduledAt, "it starts at %s", api.Clock(timeOf(row.ScheduledAt)))
	case g.done != 0:
		return set(api.WaitCommit, g.done, 0, "its last turn is being written%s; %d operations are behind it", sinceText(g.done), g.lane)
	case g.turn != 0:
		return set(api.WaitRunning, g.turn, 0, "its orchestrator runs%s", sinceText(g.turn))
	case g.queued != 0:
		return set(api.WaitTurn, g.queued, 0, "it has something to do, and no worker took it%s", sinceText(g.queued))
	case row.Status == int32(api.RUNTIME_STATUS_PENDING):
		return set(api.WaitTurn, row.CreatedAt/1000, 0, "no worker has begun it%s", sinceText(row.CreatedAt/1000))
	}
	return false
}

func sinceText(us int64) string {
	if us == 0 {
		return ""
	}
	return ", since " + api.Clock(timeOf(us))
}
