package server

import (
	"encoding/json"
	"net/http"

	"github.com/perdure/perdure/backend"
)

// backlog is what waits and what runs of one kind of work.
type backlog struct {
	Queued  int `json:"queued"`
	Running int `json:"running"`
}

// backlogOf tells an autoscaler how much there is to do in a hub. Value is the
// sum of all that waits and runs, or of one kind, as ?kind= says.
func (s *Server) backlogOf(w http.ResponseWriter, r *http.Request) {
	h := s.hubs.opened(r.PathValue("hub"))
	m, ok := backend.Metered(nil), false
	if h != nil {
		m, ok = h.be.(backend.Metered)
	}
	if !ok {
		answer(w, http.StatusNotFound, "there is no such task hub, or nobody has used it yet")
		return
	}
	st := m.Stats()
	kinds := map[backend.WorkKind]backlog{
		backend.OrchestrationWork: {st.QueuedTurns, st.Turns}, backend.ActivityWork: {st.QueuedActivities, st.Activities},
		backend.EntityWork: {st.QueuedEntities, st.Entities},
	}
	kind := backend.WorkKind(r.URL.Query().Get("kind"))
	if _, known := kinds[kind]; !known && kind != "" {
		answer(w, http.StatusBadRequest, "kind is orchestration, activity or entity")
		return
	}
	value := 0
	for k, b := range kinds {
		if kind == "" || kind == k {
			value += b.Queued + b.Running
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"value": value, "kinds": kinds}) // the peer may be gone
}
