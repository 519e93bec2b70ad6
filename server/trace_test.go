package server

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	"github.com/perdure/perdure/api/protos"
)

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	clientSpan  = "b7ad6b7169203331"
	workerSpan  = "00f067aa0ba902b7"
)

// traced has a server keep its spans, and a worker whose orchestrator names a
// span of its own as the parent of what it calls.
func traced(t *testing.T) (*bench, *tracetest.InMemoryExporter, *wireWorker) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	b := start(t, "", Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))})
	w := fullWorker()
	own := call("flaky")
	own.GetScheduleTask().ParentTraceContext = &protos.TraceContext{TraceParent: "00-" + clientTrace + "-" + workerSpan + "-01"}
	w.activities["flaky"] = func(r *protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		if got := r.GetParentTraceContext().GetTraceParent(); got != own.GetScheduleTask().GetParentTraceContext().GetTraceParent() {
			t.Errorf("the activity's parent is %s", got)
		}
		return "", &protos.TaskFailureDetails{ErrorType: "Boom", ErrorMessage: "no"}
	}
	w.scripts["flow"] = steps(`1`, call("a"), child("echo", "sub"), own)
	b.work(t, w, nil)
	return b, spans, w
}

func TestSpansJoinTheTraceOfTheClient(t *testing.T) {
	b, exporter, _ := traced(t)
	if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
		Name: "flow", InstanceId: "i", ParentTraceContext: &protos.TraceContext{TraceParent: "00-" + clientTrace + "-" + clientSpan + "-01"},
	}); err != nil {
		t.Fatal(err)
	}
	b.finish(t, "i")
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	got := map[string][]string{} // parents by name
	for _, s := range exporter.GetSpans() {
		if s.SpanContext.TraceID().String() == clientTrace {
			got[s.Name] = append(got[s.Name], s.Parent.SpanID().String())
			if failed := s.Name == "activity flaky" || s.Name == "orchestration flow"; failed != (s.Status.Code == codes.Error) {
				t.Errorf("%s: %v", s.Name, s.Status)
			}
		}
	}
	want := map[string][]string{
		"turn flow":          {clientSpan, clientSpan, clientSpan, clientSpan},
		"activity a":         {clientSpan},
		"activity flaky":     {workerSpan},
		"turn echo":          {clientSpan},
		"orchestration echo": {clientSpan},
		"orchestration flow": {clientSpan},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans and their parents: -want +got\n%s", diff)
	}
}

// TestSpansJoinTheTraceOfTheCall starts an orchestration with a client that says nothing in the request.
func TestSpansJoinTheTraceOfTheCall(t *testing.T) {
	b, exporter, _ := traced(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+clientTrace+"-"+clientSpan+"-01")
	for id, c := range map[string]struct{ ctx bool }{"joined": {true}, "alone": {false}} {
		in := t.Context()
		if c.ctx {
			in = ctx
		}
		if _, err := b.client.StartInstance(in, &protos.CreateInstanceRequest{Name: "echo", InstanceId: id}); err != nil {
			t.Fatal(err)
		}
		b.finish(t, id)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	calls, turns := map[string]string{}, map[string]string{}
	for _, s := range exporter.GetSpans() {
		switch s.Name {
		case "TaskHubSidecarService/StartInstance":
			calls[s.SpanContext.TraceID().String()] = s.SpanContext.SpanID().String()
		case "turn echo":
			turns[s.SpanContext.TraceID().String()] = s.Parent.SpanID().String()
		}
	}
	if _, ok := calls[clientTrace]; !ok || len(calls) != 2 {
		t.Errorf("calls: %v", calls)
	}
	if diff := cmp.Diff(calls, turns); diff != "" {
		t.Errorf("the parents of the turns are not the calls: -calls +turns\n%s", diff)
	}
}

// TestTheTraceOfTheCallIsPassedOn though this server takes no spans: its workers may.
func TestTheTraceOfTheCallIsPassedOn(t *testing.T) {
	b := start(t, "", Options{})
	seen := make(chan *protos.TraceContext, 1)
	w := fullWorker()
	w.activities["tell"] = func(r *protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		seen <- r.GetParentTraceContext()
		return "1", nil
	}
	w.scripts["flow"] = steps(`1`, call("tell"))
	b.work(t, w, nil)
	const parent = "00-" + clientTrace + "-" + clientSpan + "-01"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent, "tracestate", "a=1", "tracestate", "b=2")
	for _, c := range []struct {
		ctx           context.Context
		parent, state string
	}{{ctx, parent, "a=1,b=2"}, {t.Context(), "", ""}} {
		if _, err := b.client.StartInstance(c.ctx, &protos.CreateInstanceRequest{Name: "flow"}); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got.GetTraceParent() != c.parent || got.GetTraceState().GetValue() != c.state {
			t.Errorf("the activity's parent is %v, want %s %s", got, c.parent, c.state)
		}
	}
}
