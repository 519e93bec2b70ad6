package dashboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/dashboard"
	"github.com/perdure/perdure/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hostile = `<script>alert("1")</script>&'x`

type site struct {
	t      *testing.T
	url    string
	client backend.Client
}

func newSite(t *testing.T, opts dashboard.Options) *site {
	t.Helper()
	r := task.NewTaskRegistry()
	err := errors.Join(
		r.AddOrchestratorN("steps", func(ctx *task.OrchestrationContext) (any, error) {
			ctx.SetCustomStatus(hostile)
			if err := ctx.CallActivity("step", task.WithActivityInput(hostile)).Await(nil); err != nil {
				return nil, err
			}
			if err := ctx.CreateTimer(time.Millisecond).Await(nil); err != nil {
				return nil, err
			}
			return "end", ctx.CallSubOrchestrator("leaf", task.WithSubOrchestrationInstanceID(string(ctx.ID)+"-leaf")).Await(nil)
		}),
		r.AddOrchestratorN("leaf", func(*task.OrchestrationContext) (any, error) { return map[string]int{"leaf": 1}, nil }),
		r.AddOrchestratorN("waits", func(ctx *task.OrchestrationContext) (any, error) {
			var s string
			err := ctx.WaitForSingleEvent("go", -1).Await(&s)
			return s, err
		}),
		r.AddOrchestratorN("fails", func(*task.OrchestrationContext) (any, error) { return nil, errors.New(hostile) }),
		r.AddActivityN("step", func(task.ActivityContext) (any, error) { return 1, nil }),
	)
	if err != nil {
		t.Fatal(err)
	}
	log := backend.DefaultLogger()
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(""), log)
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log), backend.NewActivityTaskWorker(be, ex, log), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := backend.NewClient(be)
	if e, ok := be.(backend.Explainer); ok {
		opts.Explain = e.ExplainInstance
	}
	srv := httptest.NewServer(dashboard.New(client, opts))
	t.Cleanup(func() {
		srv.Close()
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &site{t, srv.URL + opts.Prefix, client}
}

func (s *site) start(name string, opts ...api.NewOrchestrationOptions) api.InstanceID {
	s.t.Helper()
	id, err := s.client.ScheduleNewOrchestration(s.t.Context(), name, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	if name == "waits" {
		_, err = s.client.WaitForOrchestrationStart(s.t.Context(), id)
	} else {
		_, err = s.client.WaitForOrchestrationCompletion(s.t.Context(), id)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *site) do(req *http.Request) (int, string) {
	s.t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read to its end
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return res.StatusCode, string(b)
}

func (s *site) get(path string, query ...string) string {
	s.t.Helper()
	code, body := s.try(path, query...)
	if code != http.StatusOK {
		s.t.Errorf("%s %q: %d %s", path, query, code, body)
	}
	return body
}

func (s *site) try(path string, query ...string) (int, string) {
	s.t.Helper()
	q := url.Values{}
	for n := 0; n < len(query); n += 2 {
		q.Add(query[n], query[n+1])
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path+"?"+q.Encode(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}

func (s *site) post(path string, header http.Header, form ...string) (int, string) {
	s.t.Helper()
	q := url.Values{}
	for n := 0; n < len(form); n += 2 {
		q.Add(form[n], form[n+1])
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+path, strings.NewReader(q.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.do(req)
}

func (s *site) wants(body string, parts ...string) {
	s.t.Helper()
	for _, p := range parts {
		if !strings.Contains(body, p) {
			s.t.Errorf("%q is not in\n%s", p, body)
		}
	}
}

func (s *site) status(id api.InstanceID) string {
	s.t.Helper()
	m, err := s.client.FetchOrchestrationMetadata(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return api.StatusName(m.RuntimeStatus)
}

func TestPages(t *testing.T) {
	for _, prefix := range []string{"", "/ops/perdure"} {
		t.Run("under "+prefix, func(t *testing.T) {
			s := newSite(t, dashboard.Options{Prefix: prefix, Hub: "orders"})
			id := s.start("steps", api.WithInput(map[string]int{"n": 7}), api.WithTags(map[string]string{"team": "blue"}))
			waits := s.start("waits")
			s.wants(s.get("/"), string(id), "COMPLETED", string(waits), "RUNNING", "orders", `href="`+prefix+`/instance?id=`)
			s.wants(s.get("/instance", "id", string(id)), "team", "blue", string(id)+"-leaf", "&#34;n&#34;: 7", "timeline.json")
			s.wants(s.get("/instance", "id", string(id)+"-leaf"), "Parent", string(id), "&#34;leaf&#34;: 1")
			s.wants(s.get("/instance", "id", string(waits)), "waits for event", "terminate")
			s.wants(s.get("/instance/history", "id", string(id)), "ExecutionStarted", "TaskScheduled", "TimerFired", "ExecutionCompleted")
			s.wants(s.get("/instance/sequence", "id", string(id)), "sequenceDiagram", "O->>A: step", "O->>S: leaf")
			s.wants(s.get("/instance/payload", "id", string(id), "what", "input"), `{"n":7}`)
			s.get("/entities")
			s.wants(s.get("/assets/app.js"), "drawTimeline")
		})
	}
}

func TestTimeline(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	id := s.start("steps")
	var got struct {
		Spans []struct {
			Kind, Name, State, Link string
			Start, End              time.Time
		}
		More bool
	}
	if err := json.Unmarshal([]byte(s.get("/instance/timeline.json", "id", string(id))), &got); err != nil {
		t.Fatal(err)
	}
	kinds := ""
	for _, x := range got.Spans {
		kinds += x.Kind + ":" + x.Name + ":" + x.State + " "
		if x.End.Before(x.Start) {
			t.Errorf("%+v ends before it starts", x)
		}
	}
	if want := "start:steps:fired activity:step:completed timer:timer:fired child:leaf:completed end:COMPLETED:fired "; kinds != want || got.More {
		t.Errorf("got  %s\nwant %s", kinds, want)
	}
}

func TestFilterAndPaging(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	for n := range 5 {
		s.start("steps", api.WithInstanceID(api.InstanceID(fmt.Sprintf("a%%_%d", n))))
	}
	s.start("waits", api.WithInstanceID("b"))
	body := s.get("/", "name", "steps", "size", "2")
	seen := strings.Count(body, "/instance?id=")
	for strings.Contains(body, `rel="next"`) {
		_, rest, _ := strings.Cut(body, `class="pager"`)
		_, rest, _ = strings.Cut(rest, `rel="first"`)
		if !strings.Contains(rest, "href") { // on the first page
			_, rest, _ = strings.Cut(body, `class="pager"`)
		}
		_, rest, _ = strings.Cut(rest, `href="`)
		link, _, _ := strings.Cut(rest, `"`)
		q, err := url.ParseQuery(strings.TrimPrefix(strings.ReplaceAll(link, "&amp;", "&"), "/?"))
		if err != nil || q.Get("token") == "" || q.Get("name") != "steps" {
			t.Fatalf("next page is %q, %v", link, err)
		}
		body = s.get("/", "name", "steps", "size", "2", "token", q.Get("token"))
		seen += strings.Count(body, "/instance?id=")
	}
	if seen != 5 {
		t.Errorf("saw %d instances, want 5", seen)
	}
	if body := s.get("/", "status", "RUNNING"); strings.Contains(body, "a%_") || !strings.Contains(body, `id=b"`) {
		t.Error("the filter by status does not hold", body)
	}
	if body := s.get("/", "prefix", "a%"); strings.Count(body, "/instance?id=") != 10 { // with their children
		t.Error("the filter by prefix does not hold", body)
	}
	newest, oldest := s.get("/", "prefix", "a%"), s.get("/", "prefix", "a%", "order", "oldest")
	if strings.Index(newest, "a%25_4") > strings.Index(newest, "a%25_0") || strings.Index(oldest, "a%25_0") > strings.Index(oldest, "a%25_4") {
		t.Error("the order does not hold", newest, oldest)
	}
	for _, bad := range [][]string{{"size", "0"}, {"status", "DONE"}, {"from", "yesterday"}, {"token", "?"}} {
		if code, body := s.try("/", bad...); code != http.StatusBadRequest || !strings.Contains(body, bad[0][:2]) {
			t.Errorf("%q: %d %s", bad, code, body)
		}
	}
}

func TestNothingIsRun(t *testing.T) {
	s := newSite(t, dashboard.Options{Hub: hostile})
	s.start("steps", api.WithInstanceID(hostile), api.WithInput(hostile), api.WithTags(map[string]string{hostile: hostile}))
	s.start("fails", api.WithInstanceID("f"))
	for _, body := range []string{
		s.get("/"), s.get("/", "prefix", hostile, "name", hostile, "parent", hostile),
		s.get("/instance", "id", hostile), s.get("/instance/history", "id", hostile), s.get("/instance", "id", "f"),
		s.get("/instance/act", "id", hostile, "verb", "purge"),
	} {
		if strings.Contains(body, "<script>alert") || !strings.Contains(body, "alert(") {
			t.Errorf("not shown as text: %s", body)
		}
	}
	if code, body := s.try("/instance", "id", hostile+"no"); code != http.StatusNotFound || strings.Contains(body, "<script>alert") {
		t.Errorf("%d %s", code, body)
	}
}

func TestActions(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	id := string(s.start("waits"))
	s.wants(s.get("/instance/act", "id", id, "verb", "terminate"), "cannot be undone", "Reason")
	act := func(verb string, more ...string) string {
		t.Helper()
		code, body := s.post("/instance/act", nil, append([]string{"id", id, "verb", verb}, more...)...)
		if code != http.StatusOK {
			t.Errorf("%s: %d %s", verb, code, body)
		}
		return body
	}
	act("suspend", "reason", "lunch")
	if m, err := s.client.WaitForOrchestrationStart(t.Context(), api.InstanceID(id)); err != nil || m == nil {
		t.Fatal(err)
	}
	act("resume")
	act("raise", "event", "go", "data", `"now"`)
	if m, err := s.client.WaitForOrchestrationCompletion(t.Context(), api.InstanceID(id)); err != nil || m.SerializedOutput != `"now"` {
		t.Errorf("%v %v", m, err)
	}
	act("restart")
	act("terminate", "reason", "enough")
	if m, err := s.client.WaitForOrchestrationCompletion(t.Context(), api.InstanceID(id)); err != nil || m.SerializedOutput != `"enough"` {
		t.Errorf("%v %v", m, err)
	}
	if code, body := s.post("/instance/act", nil, "id", id, "verb", "rewind"); code != http.StatusConflict {
		t.Errorf("rewind of a terminated instance: %d %s", code, body)
	}
	if code, _ := s.post("/instance/act", nil, "id", id, "verb", "explode"); code != http.StatusBadRequest {
		t.Errorf("unknown verb: %d", code)
	}
	act("purge")
	if code, _ := s.try("/instance", "id", id); code != http.StatusNotFound {
		t.Errorf("after the purge: %d", code)
	}
}

func TestBulk(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	a, b := string(s.start("waits")), string(s.start("waits"))
	form := []string{"id", a, "id", b, "id", "nobody", "verb", "terminate"}
	if code, body := s.post("/bulk", nil, form...); code != http.StatusOK || !strings.Contains(body, "terminate 3 instances?") {
		t.Errorf("%d %s", code, body)
	}
	if got := s.status(api.InstanceID(a)); got != "RUNNING" {
		t.Errorf("the preview made it %s", got)
	}
	code, body := s.post("/bulk", nil, append(form, "confirmed", "1")...)
	if code != http.StatusOK || !strings.Contains(body, "3 instances, 1 failed") {
		t.Errorf("%d %s", code, body)
	}
	for _, id := range []string{a, b} {
		if m, err := s.client.WaitForOrchestrationCompletion(t.Context(), api.InstanceID(id)); err != nil || s.status(m.InstanceID) != "TERMINATED" {
			t.Errorf("%v %v", m, err)
		}
	}
	if code, _ := s.post("/bulk", nil, "verb", "terminate"); code != http.StatusBadRequest {
		t.Errorf("nothing chosen: %d", code)
	}
}

func TestForeignSites(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	id := string(s.start("waits"))
	for _, h := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"http://evil.example"}}} {
		if code, _ := s.post("/instance/act", h, "id", id, "verb", "terminate"); code != http.StatusForbidden {
			t.Errorf("%v: %d", h, code)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example:4002"
	if code, _ := s.do(req); code != http.StatusMisdirectedRequest {
		t.Errorf("a foreign host name: %d", code)
	}
	if got := s.status(api.InstanceID(id)); got != "RUNNING" {
		t.Errorf("it is %s", got)
	}
	res, err := http.Get(s.url + "/") //nolint:noctx // as short as a test can be
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is read
	http.DefaultClient.CloseIdleConnections()
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
}

func TestReadOnly(t *testing.T) {
	s := newSite(t, dashboard.Options{ReadOnly: true})
	id := string(s.start("waits"))
	if body := s.get("/instance", "id", id); strings.Contains(body, "instance/act") {
		t.Error("a read-only page offers actions")
	}
	if code, _ := s.post("/instance/act", nil, "id", id, "verb", "terminate"); code != http.StatusForbidden {
		t.Errorf("%d", code)
	}
	if code, _ := s.post("/bulk", nil, "id", id, "verb", "terminate", "confirmed", "1"); code != http.StatusForbidden {
		t.Errorf("%d", code)
	}
}
