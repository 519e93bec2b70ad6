package dashboard

import (
	"context"
	"embed"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// Options are the settings of a dashboard; the zero value has the defaults.
type Options struct {
	// Prefix is the path under which the handler is mounted, such as "/perdure"; "" is the root.
	Prefix string
	// Hub is the name of the task hub, shown in the title.
	Hub string
	// Explain says why an instance does not move; nil where nobody can.
	Explain func(context.Context, api.InstanceID) (*api.Verdict, error)
	// Workers lists the workers that are connected; nil where there is no server.
	Workers func() []api.Worker
	// ReadOnly leaves out everything that changes something, and refuses it.
	ReadOnly bool
	// Log takes what cannot be told to the reader (default slog's default logger).
	Log backend.Logger
}

type dashboard struct {
	opts   Options
	client backend.Client
}

//go:embed assets
var assets embed.FS

// New returns a handler that shows what the client can see.
func New(client backend.Client, opts Options) http.Handler {
	if opts.Log == nil {
		opts.Log = backend.DefaultLogger()
	}
	opts.Prefix = strings.TrimSuffix(opts.Prefix, "/")
	d := &dashboard{opts: opts, client: client}
	mux := http.NewServeMux()
	get := func(path string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc("GET "+path, d.page(f))
	}
	get("/{$}", d.list)
	get("/counts.json", d.counts)
	get("/instance", d.instance)
	get("/instance/history", d.history)
	get("/instance/timeline.json", d.timeline)
	get("/instance/sequence", d.sequence)
	get("/instance/payload", d.payload)
	get("/instance/act", d.askAct)
	get("/entities", d.entities)
	get("/entity", d.entity)
	get("/workers", d.workers)
	mux.Handle("GET /assets/", http.FileServerFS(assets))
	mux.HandleFunc("POST /instance/act", d.page(d.act))
	mux.HandleFunc("POST /bulk", d.page(d.bulk))
	return http.StripPrefix(opts.Prefix, guard(mux))
}

// guard closes the ways by which another site could use a reader's browser.
func guard(next http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "+
			"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !strings.HasPrefix(r.URL.Path, "/assets/") {
			h.Set("Cache-Control", "no-store")
		}
		if rebound(r) {
			http.Error(w, "the host "+r.Host+" is not this machine", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// rebound reports whether a request that came over loopback names a host that
// is not: a foreign name that was made to resolve to this machine.
func rebound(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}

// page turns an error into a page that says it.
func (d *dashboard) page(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		code := statusOf(err)
		if code == http.StatusInternalServerError {
			d.opts.Log.Errorf("dashboard: %s: %v", r.URL.Path, err)
		}
		w.WriteHeader(code)
		d.render(w, "error", "Error", err.Error())
	}
}

var errReadOnly = errors.New("this dashboard is read-only")

func statusOf(err error) int {
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return http.StatusNotFound
	case errors.Is(err, api.ErrInvalidInput):
		return http.StatusBadRequest
	case errors.Is(err, api.ErrUnsupported):
		return http.StatusNotImplemented
	case errors.Is(err, errSlow):
		return http.StatusServiceUnavailable
	case errors.Is(err, errReadOnly):
		return http.StatusForbidden
	case errors.Is(err, api.ErrNotCompleted), errors.Is(err, api.ErrNotFailed), errors.Is(err, backend.ErrDuplicateEvent):
		return http.StatusConflict
	case errors.Is(err, backend.ErrNotInitialized):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
