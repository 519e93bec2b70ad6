package backend

import (
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/perdure/perdure/api/protos"
)

// TestNoSpanWhereNobodyTakesIt measures an item that belongs to a trace.
func TestNoSpanWhereNobodyTakesIt(t *testing.T) {
	if unset == nil {
		t.Fatal("OpenTelemetry's own provider is not recognised as one that takes nothing")
	}
	of := origin{
		kind: ActivityWork, name: "a", instance: "i",
		parent: &protos.TraceContext{TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	}
	ctx := t.Context()
	spans := func(w *taskWorker) (allocations float64, made bool) {
		allocations = testing.AllocsPerRun(100, func() {
			inner, span := w.trace(ctx, of)
			made = span != nil
			if !made && inner != ctx {
				t.Error("without a span the context is another")
			}
			span.end(WorkDone)
		})
		return allocations, made
	}
	late := newTaskWorker(nil, nil) // made before the program sets a provider
	for name, p := range map[string]trace.TracerProvider{"none set": nil, "no-op": noop.NewTracerProvider()} {
		if n, made := spans(newTaskWorker(nil, nil, WithTracerProvider(p))); n != 0 || made {
			t.Errorf("%s: %v allocations, a span: %v", name, n, made)
		}
	}
	if _, made := spans(newTaskWorker(nil, nil, WithTracerProvider(sdktrace.NewTracerProvider()))); !made {
		t.Error("no span for a provider that takes them")
	}
	otel.SetTracerProvider(sdktrace.NewTracerProvider())
	defer otel.SetTracerProvider(unset)
	if _, made := spans(late); !made {
		t.Error("no span for a provider that the program set late")
	}
}
