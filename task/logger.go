package task

import (
	"context"
	"log/slog"
)

// replayHandler drops what is logged while the orchestrator replays.
type replayHandler struct {
	slog.Handler
	orchestration *OrchestrationContext
}

// Enabled is part of slog.Handler.
func (h replayHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return !h.orchestration.IsReplaying && h.Handler.Enabled(ctx, level)
}

// WithAttrs is part of slog.Handler.
func (h replayHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return replayHandler{h.Handler.WithAttrs(attrs), h.orchestration}
}

// WithGroup is part of slog.Handler.
func (h replayHandler) WithGroup(name string) slog.Handler {
	return replayHandler{h.Handler.WithGroup(name), h.orchestration}
}
