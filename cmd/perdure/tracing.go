package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// newTracing exports spans as the standard environment variables of
// OpenTelemetry say; nil where they name no endpoint, or turn it off.
func newTracing(ctx context.Context) (*sdktrace.TracerProvider, error) {
	env := func(name string) string { return strings.ToLower(strings.TrimSpace(os.Getenv(name))) }
	endpoint := cmp.Or(env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), env("OTEL_EXPORTER_OTLP_ENDPOINT"))
	exporter := cmp.Or(env("OTEL_TRACES_EXPORTER"), "otlp")
	if endpoint == "" || exporter == "none" || env("OTEL_SDK_DISABLED") == "true" {
		return nil, nil
	}
	if exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER=%s: want otlp or none", exporter)
	}
	client := otlptracehttp.NewClient()
	switch p := cmp.Or(env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), env("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); p {
	case "grpc":
		client = otlptracegrpc.NewClient()
	case "http/protobuf":
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%s: want grpc or http/protobuf", p)
	}
	to, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("perdure"), semconv.ServiceVersion(version())),
		resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	// The sampler and the batches are set by the environment too.
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(to), sdktrace.WithResource(about)), nil
}
