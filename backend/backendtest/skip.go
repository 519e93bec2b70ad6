package backendtest

import (
	"context"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// What the host's client does only with an optional interface skips the test
// where the backend lacks it. The embedded Client does not.

// needs skips the test where the backend has no T.
func needs[T any](h *caseHost) {
	h.t.Helper()
	as[T](h.t, h.be)
}

func (h *caseHost) ForceTerminate(ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions) error {
	needs[backend.InstanceManager](h)
	return h.Client.ForceTerminate(ctx, id, opts...)
}

func (h *caseHost) Purge(ctx context.Context, id api.InstanceID, opts ...api.PurgeOptions) (int, error) {
	needs[backend.InstanceManager](h)
	return h.Client.Purge(ctx, id, opts...)
}

func (h *caseHost) ForcePurge(ctx context.Context, id api.InstanceID) (int, error) {
	needs[backend.InstanceManager](h)
	return h.Client.ForcePurge(ctx, id)
}

func (h *caseHost) Rewind(ctx context.Context, id api.InstanceID, reason string) error {
	needs[backend.InstanceManager](h)
	return h.Client.Rewind(ctx, id, reason)
}

func (h *caseHost) Query(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	needs[backend.InstanceQuerier](h)
	return h.Client.Query(ctx, q)
}

func (h *caseHost) History(ctx context.Context, id api.InstanceID, f func([]*backend.HistoryEvent) error) error {
	needs[backend.HistoryReader](h)
	return h.Client.History(ctx, id, f)
}
