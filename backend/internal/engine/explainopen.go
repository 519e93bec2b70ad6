package engine

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// open finds in a history what has begun and is not over.
type open struct {
	order     []int32 // of the actions, as they were taken; closed ones too
	byID      map[int32]api.Wait
	requests  map[string]int32 // to entities
	last      time.Time        // of the last turn
	suspended time.Time
	reason    string

	failed map[string]failure // the last of each name of an activity or child
	tasks  map[int32]string   // names by action
	recent string             // what failed in the turn at hand; "" for nothing
}

type failure struct {
	times int
	text  string
}

func (o *open) add(e *backend.HistoryEvent) {
	if o.byID == nil {
		o.byID, o.requests = map[int32]api.Wait{}, map[string]int32{}
		o.failed, o.tasks = map[string]failure{}, map[int32]string{}
	}
	at := e.GetTimestamp().AsTime()
	begin := func(w api.Wait) {
		w.TaskID, w.Since = e.GetEventId(), at
		o.byID[w.TaskID] = w
		o.order = append(o.order, w.TaskID)
		o.tasks[w.TaskID] = w.Name
	}
	switch v := e.GetEventType().(type) {
	case *protos.HistoryEvent_OrchestratorStarted:
		o.last, o.recent = at, ""
	case *protos.HistoryEvent_TaskScheduled:
		begin(api.Wait{Reason: api.WaitQueued, Name: v.TaskScheduled.GetName(), Version: v.TaskScheduled.GetVersion().GetValue()})
	case *protos.HistoryEvent_TaskCompleted:
		delete(o.byID, v.TaskCompleted.GetTaskScheduledId())
	case *protos.HistoryEvent_TaskFailed:
		o.fail(v.TaskFailed.GetTaskScheduledId(), v.TaskFailed.GetFailureDetails())
	case *protos.HistoryEvent_SubOrchestrationInstanceCreated:
		c := v.SubOrchestrationInstanceCreated
		begin(api.Wait{Reason: api.WaitChild, Name: c.GetName(), Version: c.GetVersion().GetValue(), InstanceID: api.InstanceID(c.GetInstanceId())})
	case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
		delete(o.byID, v.SubOrchestrationInstanceCompleted.GetTaskScheduledId())
	case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
		o.fail(v.SubOrchestrationInstanceFailed.GetTaskScheduledId(), v.SubOrchestrationInstanceFailed.GetFailureDetails())
	case *protos.HistoryEvent_TimerCreated:
		begin(o.timer(v.TimerCreated))
	case *protos.HistoryEvent_TimerFired:
		delete(o.byID, v.TimerFired.GetTimerId())
	case *protos.HistoryEvent_ExecutionSuspended:
		o.suspended, o.reason = at, v.ExecutionSuspended.GetInput().GetValue()
	default:
		o.entityEvent(e, begin)
	}
}

func (o *open) entityEvent(e *backend.HistoryEvent, begin func(api.Wait)) {
	switch v := e.GetEventType().(type) {
	case *protos.HistoryEvent_EntityOperationCalled:
		c := v.EntityOperationCalled
		o.requests[c.GetRequestId()] = e.GetEventId()
		begin(api.Wait{
			Reason: api.WaitEntity, Name: c.GetOperation(), InstanceID: api.InstanceID(c.GetTargetInstanceId().GetValue()),
			Detail: "operation " + c.GetOperation(),
		})
	case *protos.HistoryEvent_EntityLockRequested:
		l := v.EntityLockRequested
		o.requests[l.GetCriticalSectionId()] = e.GetEventId()
		if set := l.GetLockSet(); len(set) > 0 {
			begin(api.Wait{Reason: api.WaitEntity, InstanceID: api.InstanceID(set[0]), Detail: fmt.Sprintf("its lock, one of %d", len(set))})
		}
	case *protos.HistoryEvent_EntityOperationCompleted:
		o.answered(v.EntityOperationCompleted.GetRequestId())
	case *protos.HistoryEvent_EntityOperationFailed:
		o.answered(v.EntityOperationFailed.GetRequestId())
	case *protos.HistoryEvent_EntityLockGranted:
		if e.GetEventId() == backend.RewoundGrant {
			break // it waits for it once more
		}
		o.answered(v.EntityLockGranted.GetCriticalSectionId())
	}
}

func (o *open) answered(request string) {
	if id, ok := o.requests[request]; ok {
		delete(o.byID, id)
	}
}

func (o *open) fail(id int32, d *backend.TaskFailureDetails) {
	delete(o.byID, id)
	name := o.tasks[id]
	o.failed[name] = failure{o.failed[name].times + 1, d.GetErrorType() + ": " + d.GetErrorMessage()}
	o.recent = name
}

// timer takes a timer that was made in a turn in which something failed for
// that of its next attempt: history does not say it.
func (o *open) timer(t *protos.TimerCreatedEvent) api.Wait {
	w := api.Wait{Reason: api.WaitTimer, Until: t.GetFireAt().AsTime()}
	if f := o.failed[o.recent]; o.recent != "" {
		w.Detail = fmt.Sprintf("made as %q failed, so far %d times: %s", o.recent, f.times, f.text)
	}
	return w
}

// waits are what is open, with what memory knows of it.
func (o *open) waits(g glance) []api.Wait {
	var known []api.Wait
	if g.waiter != nil {
		known = g.waiter.Waits()
	}
	timed := map[int64]bool{} // their timers are no waits of their own
	for n := range known {
		known[n].Since = o.last
		timed[micros(known[n].Until)] = true
	}
	all := known
	for _, id := range o.order {
		w, ok := o.byID[id]
		if !ok || w.Reason == api.WaitTimer && timed[micros(w.Until)] {
			continue
		}
		if t, ok := g.tasks[id]; ok && w.Reason == api.WaitQueued {
			w.Since = timeOf(t.since)
			if t.out {
				w.Reason, w.Attempt = api.WaitActivity, int(t.attempt)
			}
		}
		all = append(all, w)
		delete(o.byID, id) // an id comes again after a rewind
	}
	return all
}
