package dashboard

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// maxSteps is how many arrows a sequence diagram has: more cannot be read.
const maxSteps = 300

// sequence is the instance's history as a Mermaid sequence diagram, for documents and tickets.
func (d *dashboard) sequence(w http.ResponseWriter, r *http.Request) error {
	id := api.InstanceID(r.URL.Query().Get("id"))
	var steps []string
	names := map[int32]string{}
	add := func(format string, a ...any) { steps = append(steps, fmt.Sprintf(format, a...)) }
	err := d.events(r.Context(), id, func(_ int, e *backend.HistoryEvent) error {
		if len(steps) >= maxSteps {
			add("Note over O: … more than %d steps", maxSteps)
			return errEnough
		}
		switch {
		case e.GetExecutionStarted() != nil:
			add("C->>O: start %s", plain(e.GetExecutionStarted().GetName()))
		case e.GetEventRaised() != nil:
			add("C->>O: event %s", plain(e.GetEventRaised().GetName()))
		case e.GetTaskScheduled() != nil:
			names[e.GetEventId()] = plain(e.GetTaskScheduled().GetName())
			add("O->>A: %s", names[e.GetEventId()])
		case e.GetTaskCompleted() != nil:
			add("A-->>O: %s completed", names[e.GetTaskCompleted().GetTaskScheduledId()])
		case e.GetTaskFailed() != nil:
			f := e.GetTaskFailed()
			add("A--xO: %s failed: %s", names[f.GetTaskScheduledId()], plain(f.GetFailureDetails().GetErrorMessage()))
		case e.GetTimerCreated() != nil:
			add("O->>T: until %s", stamp(e.GetTimerCreated().GetFireAt().AsTime()))
		case e.GetTimerFired() != nil:
			add("T-->>O: fired")
		case e.GetSubOrchestrationInstanceCreated() != nil:
			names[e.GetEventId()] = plain(e.GetSubOrchestrationInstanceCreated().GetName())
			add("O->>S: %s", names[e.GetEventId()])
		case e.GetSubOrchestrationInstanceCompleted() != nil:
			add("S-->>O: %s completed", names[e.GetSubOrchestrationInstanceCompleted().GetTaskScheduledId()])
		case e.GetSubOrchestrationInstanceFailed() != nil:
			add("S--xO: %s failed", names[e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId()])
		case e.GetExecutionCompleted() != nil:
			add("O-->>C: %s", api.StatusName(e.GetExecutionCompleted().GetOrchestrationStatus()))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sequence of %q: %w", id, err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "sequenceDiagram\n"+ // the reader may be gone
		"    participant C as Client\n    participant O as Orchestration\n    participant A as Activities\n"+
		"    participant S as Sub-orchestrations\n    participant T as Timers\n    "+
		strings.Join(steps, "\n    ")+"\n")
	return nil
}

// plain keeps a name from being read as part of the diagram.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == ';' || r == '#' || r == ':':
			return ' '
		}
		return r
	}, short(s))
}
