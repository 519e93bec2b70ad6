package backend

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Tracing: each turn and each activity has a span, from being handed out to its
// outcome, and each orchestration has one from its start to its end. They belong to
// the trace of whoever started the orchestration, beside the spans of the SDKs: what
// those say of parents is passed on as it is. A start that says nothing joins the
// trace of the call that it came with; what belongs to no trace has no span. Where
// nobody takes spans, none is made, and items cost no allocation for it; the parents
// are still passed on to those who may.

const scope = "github.com/perdure/perdure/backend"

// WithTracerProvider sets where the spans of work items go; the default is otel.GetTracerProvider().
func WithTracerProvider(p trace.TracerProvider) NewTaskWorkerOptions {
	return func(o *WorkerOptions) { o.Tracer = p }
}

// tracing makes the spans of work items.
type tracing struct {
	trace.Tracer      // nil where p takes no span
	global       bool // the tracer is that of whatever the program sets as OpenTelemetry's provider
}

func tracingBy(p trace.TracerProvider) tracing {
	if _, ok := p.(noop.TracerProvider); ok {
		return tracing{}
	}
	if p == nil {
		return tracing{otel.GetTracerProvider().Tracer(scope), true}
	}
	return tracing{p.Tracer(scope), false}
}

// wanted says whether somebody takes spans; a program may set its provider after it made the worker.
func (t tracing) wanted() bool {
	return t.Tracer != nil && (!t.global || otel.GetTracerProvider() != unset)
}

// unset is OpenTelemetry's provider as long as no program has set one: it only stands
// in for one to come. Nil where a provider was set before this package was initialised.
var unset = standIn(otel.GetTracerProvider())

func standIn(p trace.TracerProvider) trace.TracerProvider {
	if fmt.Sprintf("%T", p) != "*global.tracerProvider" {
		return nil
	}
	return p
}

// ofCall returns a context that has the trace which the gRPC call of ctx names, where
// the server has made no span of the call.
func ofCall(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	parent := metadata.ValueFromIncomingContext(ctx, "traceparent")
	if len(parent) == 0 {
		return ctx
	}
	state := metadata.ValueFromIncomingContext(ctx, "tracestate")
	return withTraceContext(ctx, &protos.TraceContext{
		TraceParent: parent[0], TraceState: wrapperspb.String(strings.Join(state, ",")),
	})
}

// traceContext is the span of ctx in the form of the protocol; nil where it has none that is sampled.
func traceContext(ctx context.Context) *protos.TraceContext {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	tc := &protos.TraceContext{TraceParent: carrier["traceparent"]}
	if state := carrier["tracestate"]; state != "" {
		tc.TraceState = wrapperspb.String(state)
	}
	return tc
}

// withTraceContext returns a context whose spans have the parent that tc names.
func withTraceContext(ctx context.Context, tc *protos.TraceContext) context.Context {
	if tc.GetTraceParent() == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{
		"traceparent": tc.GetTraceParent(), "tracestate": tc.GetTraceState().GetValue(),
	})
}

// origin is what a span is told of a work item.
type origin struct {
	kind     WorkKind
	name     string
	instance api.InstanceID
	task     int32
	attempt  int32
	parent   *protos.TraceContext
}

// told is the optional interface of a work item that says where it is from.
type told interface {
	origin() origin
}

func originOf(wi WorkItem) origin {
	if t, ok := wi.(told); ok {
		return t.origin()
	}
	return origin{}
}

func (wi *OrchestrationWorkItem) origin() origin {
	o := origin{kind: OrchestrationWork, instance: wi.InstanceID, attempt: wi.RetryCount + 1}
	start := last(nil, wi.NewEvents, (*HistoryEvent).GetExecutionStarted)
	if start == nil && wi.State != nil {
		start = wi.State.StartEvent()
	}
	o.name, o.parent = start.GetName(), start.GetParentTraceContext()
	return o
}

func (wi *ActivityWorkItem) origin() origin {
	t := wi.NewEvent.GetTaskScheduled()
	return origin{
		kind: ActivityWork, name: t.GetName(), instance: wi.InstanceID, task: wi.NewEvent.GetEventId(),
		attempt: wi.Info().Attempt, parent: t.GetParentTraceContext(),
	}
}

func (wi *EntityWorkItem) origin() origin {
	name, _, _ := strings.Cut(strings.TrimPrefix(string(wi.InstanceID), "@"), "@")
	return origin{kind: EntityWork, name: name, instance: wi.InstanceID, attempt: wi.RetryCount + 1}
}

// tracedItem is the span of one work item, and what is to be said of its orchestration.
type tracedItem struct {
	trace.Span
	tracer trace.Tracer
	ctx    context.Context
	origin origin
	over   *finished
}

// finished is an orchestration that a turn ended.
type finished struct {
	began, ended time.Time
	status       protos.OrchestrationStatus
	failure      *TaskFailureDetails
}

// trace begins the span of an item that belongs to a trace.
func (w *taskWorker) trace(ctx context.Context, o origin) (context.Context, *tracedItem) {
	if o.parent.GetTraceParent() == "" || !w.tracing.wanted() {
		return ctx, nil
	}
	parent := withTraceContext(ctx, o.parent)
	if !trace.SpanContextFromContext(parent).IsValid() {
		return ctx, nil
	}
	name := "turn "
	if o.kind != OrchestrationWork {
		name = string(o.kind) + " "
	}
	inner, span := w.tracing.Start(parent, name+o.name, trace.WithSpanKind(trace.SpanKindInternal))
	if !span.IsRecording() {
		return ctx, nil
	}
	span.SetAttributes(o.attributes()...)
	return inner, &tracedItem{Span: span, tracer: w.tracing, ctx: parent, origin: o}
}

func (o origin) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{
		attribute.String("durabletask.type", string(o.kind)), attribute.String("durabletask.task.name", o.name),
		attribute.String("durabletask.task.instance_id", string(o.instance)), attribute.Int("perdure.attempt", int(o.attempt)),
	}
	if o.kind == ActivityWork {
		list = append(list, attribute.Int("durabletask.task.task_id", int(o.task)))
	}
	return list
}

// look notes what a processed turn says; once it is completed its state belongs to others.
func (t *tracedItem) look(wi WorkItem) {
	if t == nil {
		return
	}
	switch wi := wi.(type) {
	case *OrchestrationWorkItem:
		if wi.State == nil {
			return
		}
		for _, e := range wi.NewEvents {
			if name, about := cause(e); name != "" {
				t.AddEvent(name, trace.WithTimestamp(e.GetTimestamp().AsTime()), trace.WithAttributes(about...))
			}
		}
		if c := wi.State.CompletionEvent(); c != nil {
			t.over = &finished{status: c.GetOrchestrationStatus(), failure: c.GetFailureDetails()}
			t.over.began, _ = wi.State.CreatedTime()
			t.over.ended, _ = wi.State.CompletedTime()
		}
	case *ActivityWorkItem:
		if f := wi.Result.GetTaskFailed(); f != nil {
			t.SetStatus(codes.Error, f.GetFailureDetails().GetErrorType()+": "+f.GetFailureDetails().GetErrorMessage())
		}
	}
}

// cause names an event that a turn has for a reason.
func cause(e *HistoryEvent) (string, []attribute.KeyValue) {
	id := func(n int32) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.Int("durabletask.task.task_id", int(n))}
	}
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_ExecutionStarted:
		return "started", nil
	case *protos.HistoryEvent_TaskCompleted:
		return "activity completed", id(t.TaskCompleted.GetTaskScheduledId())
	case *protos.HistoryEvent_TaskFailed:
		return "activity failed", id(t.TaskFailed.GetTaskScheduledId())
	case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
		return "child completed", id(t.SubOrchestrationInstanceCompleted.GetTaskScheduledId())
	case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
		return "child failed", id(t.SubOrchestrationInstanceFailed.GetTaskScheduledId())
	case *protos.HistoryEvent_TimerFired:
		return "timer fired", append(id(t.TimerFired.GetTimerId()),
			attribute.String("durabletask.fire_at", t.TimerFired.GetFireAt().AsTime().Format(time.RFC3339Nano)))
	case *protos.HistoryEvent_EventRaised:
		return "event raised", []attribute.KeyValue{attribute.String("durabletask.event.name", t.EventRaised.GetName())}
	case *protos.HistoryEvent_ExecutionTerminated:
		return "terminated", nil
	case *protos.HistoryEvent_ExecutionSuspended:
		return "suspended", nil
	case *protos.HistoryEvent_ExecutionResumed:
		return "resumed", nil
	}
	return "", nil
}

// end ends the span of the item and, where its turn was the last, tells of the whole orchestration.
func (t *tracedItem) end(outcome WorkOutcome) {
	if t == nil {
		return
	}
	t.SetAttributes(attribute.String("perdure.outcome", string(outcome)))
	t.Span.End()
	if t.over == nil || outcome != WorkDone {
		return
	}
	_, whole := t.tracer.Start(t.ctx, "orchestration "+t.origin.name,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(t.over.began), trace.WithAttributes(
			attribute.String("durabletask.type", "orchestration"), attribute.String("durabletask.task.name", t.origin.name),
			attribute.String("durabletask.task.instance_id", string(t.origin.instance)),
			attribute.String("durabletask.task.status", api.StatusName(t.over.status)),
		))
	if f := t.over.failure; f != nil {
		whole.SetStatus(codes.Error, f.GetErrorType()+": "+f.GetErrorMessage())
	}
	whole.End(trace.WithTimestamp(t.over.ended))
}
