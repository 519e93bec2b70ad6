package dashboard

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"status": api.StatusName, "stamp": stamp, "short": short, "pretty": pretty, "time": isoTime, "took": took,
	"lower": strings.ToLower,
}).ParseFS(templateFiles, "templates/*.html"))

// view is what every page gets.
type view struct {
	Title, Hub, Prefix string
	ReadOnly           bool
	Data               any
}

func (d *dashboard) render(w io.Writer, name, title string, data any) {
	var b bytes.Buffer // a page that fails half-way must not look whole
	err := templates.ExecuteTemplate(&b, name, view{title, d.opts.Hub, d.opts.Prefix, d.opts.ReadOnly, data})
	if err != nil {
		d.opts.Log.Errorf("dashboard: %s: %v", name, err)
		b.Reset()
		b.WriteString("this page cannot be shown")
	}
	if h, ok := w.(http.ResponseWriter); ok && h.Header().Get("Content-Type") == "" {
		h.Header().Set("Content-Type", "text/html; charset=utf-8")
	}
	_, _ = w.Write(b.Bytes()) // the reader may be gone
}

// link is a path of the dashboard with its query: keys and values in turn.
func (d *dashboard) link(path string, query ...string) string {
	q := url.Values{}
	for n := 0; n+1 < len(query); n += 2 {
		if query[n+1] != "" {
			q.Add(query[n], query[n+1])
		}
	}
	if len(q) == 0 {
		return d.opts.Prefix + path
	}
	return d.opts.Prefix + path + "?" + q.Encode()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000")
}

func isoTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// took is the time between two moments, rounded for people; up to now where the second is not set.
func took(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = time.Now()
	}
	d := to.Sub(from)
	switch {
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Hour:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

const shortText = 80

func short(s string) string {
	r := []rune(s)
	if len(r) <= shortText {
		return s
	}
	return string(r[:shortText-1]) + "…"
}

// maxShown is how much of a payload a page holds; the rest is behind a link.
const maxShown = 20_000

type payloadView struct {
	Text string
	Size int
	Link string // to all of it; "" where Text is all
}

func (d *dashboard) payloadView(id api.InstanceID, what, s string) payloadView {
	p := payloadView{Text: pretty(s), Size: len(s)}
	if len(p.Text) > maxShown {
		p.Text = strings.ToValidUTF8(p.Text[:maxShown], "") + "…"
		p.Link = d.link("/instance/payload", "id", string(id), "what", what)
	}
	return p
}

// pretty indents what is JSON and leaves everything else.
func pretty(s string) string {
	if len(s) > 1<<20 || !json.Valid([]byte(s)) {
		return s
	}
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(s), "", "  "); err != nil {
		return s
	}
	return b.String()
}

func statuses() []protos.OrchestrationStatus {
	return []protos.OrchestrationStatus{
		api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_SUSPENDED,
		api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED,
	}
}

func statusNamed(name string) (protos.OrchestrationStatus, error) {
	for _, s := range statuses() {
		if strings.EqualFold(api.StatusName(s), name) {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: there is no status %q", api.ErrInvalidInput, name)
}
