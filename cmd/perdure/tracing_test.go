package main

import (
	"context"
	"net"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/api/protos"
)

// spanSink is a collector that keeps the names of what it gets.
type spanSink struct {
	collector.UnimplementedTraceServiceServer
	names chan string
}

func (s *spanSink) Export(
	_ context.Context, req *collector.ExportTraceServiceRequest,
) (*collector.ExportTraceServiceResponse, error) {
	for _, r := range req.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.names <- service + ": " + span.GetName()
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestSpansGoToTheCollector serves until a signal, with an exporter that the environment names.
func TestSpansGoToTheCollector(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink, rpc := &spanSink{names: make(chan string, 100)}, grpc.NewServer()
	collector.RegisterTraceServiceServer(rpc, sink)
	go func() { _ = rpc.Serve(l) }()
	t.Cleanup(rpc.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_SERVICE_NAME", "orders")

	addr, stop := untilSignal(t, "open to", "serve", "--db", t.TempDir()+"/hub.db")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := protos.NewTaskHubSidecarServiceClient(conn).StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "o"}); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := <-sink.names; got != "orders: TaskHubSidecarService/StartInstance" {
		t.Errorf("the collector got %q", got)
	}
}

func TestTracingSettings(t *testing.T) {
	for _, tt := range []struct {
		name      string
		env       map[string]string
		on, fails bool
	}{
		{"nothing", nil, false, false},
		{"endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, true, false},
		{"endpoint of traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, true, false},
		{"off", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, false, false},
		{"disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, false, false},
		{"exporter", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "zipkin"}, false, true},
		{"protocol", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			p, err := newTracing(t.Context())
			if (p != nil) != tt.on || (err != nil) != tt.fails {
				t.Errorf("got %v, %v", p, err)
			}
			if p != nil {
				if err := p.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
