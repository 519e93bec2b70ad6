package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
)

// failing is a backend whose every answer is one error.
type failing struct {
	backend.Backend
	err error
}

func (f *failing) AddNewOrchestrationEvent(context.Context, api.InstanceID, *backend.HistoryEvent) error {
	return f.err
}

func (f *failing) GetOrchestrationMetadata(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error) {
	return nil, f.err
}

func (f *failing) QueryInstances(context.Context, api.InstanceQuery) (*api.InstancePage, error) {
	return nil, f.err
}

func (f *failing) ReadHistory(context.Context, api.InstanceID, func([]*backend.HistoryEvent) error) error {
	return f.err
}

func TestSentinelsCrossTheWire(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	be := &failing{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	backend.NewGrpcExecutor(s, be, quiet())
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() { s.Stop(); <-served })
	c := client.NewClient(dial(t, listener.Addr().String()), quiet())

	sentinels := []error{
		api.ErrInstanceNotFound, api.ErrNotStarted, api.ErrNotCompleted, api.ErrNoFailures, api.ErrDuplicateInstance,
		api.ErrInvalidInput, api.ErrInvalidInstanceID, api.ErrPayloadTooLarge, api.ErrNotFailed, api.ErrUnsupported,
		api.ErrTaskHubLocked, api.ErrSchemaTooNew, api.ErrCorrupt, api.ErrUnavailable,
		backend.ErrTaskHubExists, backend.ErrTaskHubNotFound, backend.ErrNotInitialized, backend.ErrWorkItemLockLost,
		backend.ErrBackendAlreadyStarted, backend.ErrDuplicateEvent, backend.ErrNoWorkItems,
	}
	calls := map[string]func() error{
		"RaiseEvent": func() error { return c.RaiseEvent(t.Context(), "i", "e", nil) },
		"Fetch":      func() error { _, err := c.FetchOrchestrationMetadata(t.Context(), "i"); return err },
		"Query":      func() error { _, err := c.Query(t.Context(), api.InstanceQuery{}); return err },
		"History":    func() error { return c.History(t.Context(), "i", nil) },
	}
	for _, sentinel := range sentinels {
		be.err = fmt.Errorf("do it to %q: %w: because", "i", sentinel)
		for name, call := range calls {
			err := call()
			for _, other := range sentinels {
				if errors.Is(err, other) != errors.Is(sentinel, other) {
					t.Errorf("%s: %v: errors.Is(%v) is %v", name, sentinel, other, errors.Is(err, other))
				}
			}
		}
	}
	be.err = fmt.Errorf("taken: %w (%w)", api.ErrDuplicateInstance, backend.ErrDuplicateEvent)
	if err := calls["Query"](); !errors.Is(err, api.ErrDuplicateInstance) || !errors.Is(err, backend.ErrDuplicateEvent) {
		t.Errorf("two sentinels in one error: %v", err)
	}
	be.err = errors.New("disk on fire")
	for name, call := range calls {
		if err := call(); err == nil || errors.Is(err, api.ErrInstanceNotFound) {
			t.Errorf("%s: an error without a sentinel: %v", name, err)
		}
	}
	be.err = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.RaiseEvent(ctx, "i", "e", nil); err != context.Canceled { //nolint:errorlint // the contract: ctx.Err() itself
		t.Errorf("ended context: %v", err)
	}
}
