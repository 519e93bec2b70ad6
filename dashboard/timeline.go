package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// span is a stretch of an instance's life: a turn, an activity, a timer, a
// child, a call of an entity, or an event that came.
type span struct {
	Kind  string    `json:"kind"`
	Name  string    `json:"name"`
	ID    int32     `json:"id"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"` // zero while it is open
	State string    `json:"state"`        // open, completed, failed or fired
	Link  string    `json:"link,omitempty"`
}

// maxSpans bounds what a reader's browser is asked to draw.
const maxSpans = 50_000

type timelineData struct {
	Spans []span `json:"spans"`
	More  bool   `json:"more"` // there are more than maxSpans
}

// timeline is what the script of an instance's page draws.
func (d *dashboard) timeline(w http.ResponseWriter, r *http.Request) error {
	id := api.InstanceID(r.URL.Query().Get("id"))
	data, err := d.spans(r, id)
	if err != nil {
		return fmt.Errorf("timeline of %q: %w", id, err)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(data)
}

func (d *dashboard) spans(r *http.Request, id api.InstanceID) (timelineData, error) {
	b := spanBuilder{d: d, spans: []span{}, open: map[int32]int{}}
	err := d.events(r.Context(), id, func(_ int, e *backend.HistoryEvent) error {
		b.add(e)
		if len(b.spans) >= maxSpans {
			b.more = true
			return errEnough
		}
		return nil
	})
	return timelineData{b.spans, b.more}, err
}

type spanBuilder struct {
	d     *dashboard
	spans []span
	open  map[int32]int // by action id: index in spans
	more  bool
}

func (b *spanBuilder) add(e *backend.HistoryEvent) {
	at, id := e.GetTimestamp().AsTime(), e.GetEventId()
	begin := func(kind, name, link string) {
		b.open[id] = len(b.spans)
		b.spans = append(b.spans, span{Kind: kind, Name: name, ID: id, Start: at, State: "open", Link: link})
	}
	end := func(id int32, state string) {
		if n, ok := b.open[id]; ok {
			b.spans[n].End, b.spans[n].State = at, state
			delete(b.open, id)
		}
	}
	point := func(kind, name string) {
		b.spans = append(b.spans, span{Kind: kind, Name: name, ID: id, Start: at, End: at, State: "fired"})
	}
	switch {
	case e.GetExecutionStarted() != nil:
		point("start", e.GetExecutionStarted().GetName())
	case e.GetExecutionCompleted() != nil:
		point("end", api.StatusName(e.GetExecutionCompleted().GetOrchestrationStatus()))
	case e.GetExecutionTerminated() != nil:
		point("terminate", "")
	case e.GetExecutionSuspended() != nil:
		point("suspend", "")
	case e.GetExecutionResumed() != nil:
		point("resume", "")
	case e.GetEventRaised() != nil:
		point("event", e.GetEventRaised().GetName())
	case e.GetEventSent() != nil:
		point("send", e.GetEventSent().GetName())
	case e.GetTaskScheduled() != nil:
		begin("activity", e.GetTaskScheduled().GetName(), "")
	case e.GetTaskCompleted() != nil:
		end(e.GetTaskCompleted().GetTaskScheduledId(), "completed")
	case e.GetTaskFailed() != nil:
		end(e.GetTaskFailed().GetTaskScheduledId(), "failed")
	case e.GetTimerCreated() != nil:
		begin("timer", "timer", "")
	case e.GetTimerFired() != nil:
		end(e.GetTimerFired().GetTimerId(), "fired")
	case e.GetSubOrchestrationInstanceCreated() != nil:
		c := e.GetSubOrchestrationInstanceCreated()
		begin("child", c.GetName(), b.d.link("/instance", "id", c.GetInstanceId()))
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		end(e.GetSubOrchestrationInstanceCompleted().GetTaskScheduledId(), "completed")
	case e.GetSubOrchestrationInstanceFailed() != nil:
		end(e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId(), "failed")
	case e.GetEntityOperationCalled() != nil:
		c := e.GetEntityOperationCalled()
		point("entity call", c.GetTargetInstanceId().GetValue()+" "+c.GetOperation())
	case e.GetEntityOperationSignaled() != nil:
		c := e.GetEntityOperationSignaled()
		point("entity signal", c.GetTargetInstanceId().GetValue()+" "+c.GetOperation())
	}
}
