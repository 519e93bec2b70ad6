package server

import (
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// handler answers /healthz while the process lives, and /readyz while it takes
// work. All else is for those who prove who they are, where that is asked for.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reason := s.notReady(); reason != "" {
			answer(w, http.StatusServiceUnavailable, reason)
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	proven := http.NewServeMux()
	proven.HandleFunc("/hubs/{hub}/", s.dashboard)
	proven.HandleFunc("GET /hubs/{hub}/backlog.json", s.backlogOf)
	proven.Handle("GET /{$}", http.RedirectHandler("/hubs/"+defaultHub+"/", http.StatusFound))
	proven.Handle("GET /metrics", promhttp.HandlerFor(s.stats.registry, promhttp.HandlerOpts{}))
	mux.Handle("/", s.guard.protect(s.audit.pages(proven)))
	return mux
}

// dashboard shows a hub that is open.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request) {
	h := s.hubs.opened(r.PathValue("hub"))
	if h == nil {
		answer(w, http.StatusNotFound, "there is no such task hub, or nobody has used it yet")
		return
	}
	if !who(r.Context()).has(roleOperator) {
		h.webReader.ServeHTTP(w, r)
		return
	}
	h.web.ServeHTTP(w, r)
}

// notReady says why the server takes no work, "" while it does.
func (s *Server) notReady() string {
	if !s.ready.Load() {
		return "starting or stopping"
	}
	if err := s.hubs.health(); err != nil {
		return err.Error()
	}
	return ""
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // the peer may be gone
}
