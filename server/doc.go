// Package server is one process that serves a task hub: a backend with its
// workers, the gRPC service that clients and workers of every SDK connect to,
// and HTTP for health.
//
// It knows no store: whoever starts it gives it a backend.
//
// Run starts everything, in this order, and stops it in the reverse one:
//
//	listen ─▶ backend and workers ─▶ gRPC, HTTP ─▶ ready
//	not ready ─▶ no more work is handed out ─▶ workers answer what they have,
//	    until the drain time is over ─▶ backend closed ─▶ connections closed
package server
