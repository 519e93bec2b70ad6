package task_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/perdure/perdure/task"
)

func TestLoggerIsSilentOnReplay(t *testing.T) { //nolint:paralleltest // it replaces the default logger
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		log := ctx.Logger().WithGroup("g").With("k", 1)
		defer log.Info("unwound")
		log.Info("begin")
		_ = ctx.WaitForSingleEvent("e", -1).Await(nil)
		log.Info("event")
		_ = ctx.WaitForSingleEvent("e", -1).Await(nil)
		return nil, nil
	})
	h.residentOnly = true
	h.start("")
	h.state.Release()
	h.turn(raised("e", ""))
	h.state.Release()
	got := out.String()
	if strings.Count(got, "begin") != 1 || strings.Count(got, "msg=event") != 1 || strings.Contains(got, "unwound") ||
		!strings.Contains(got, "instance=inst orchestrator=o g.k=1") {
		t.Fatal(got)
	}
}
