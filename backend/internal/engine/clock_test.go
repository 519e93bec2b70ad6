package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/task"
)

// counting counts how often the engine looks at its clock.
type counting struct {
	backend.SystemClock
	looks atomic.Int64
}

func (c *counting) Now() time.Time {
	c.looks.Add(1)
	return c.SystemClock.Now()
}

func TestVirtualClock(t *testing.T) {
	const month = 30 * 24 * time.Hour
	r := task.NewTaskRegistry()
	if err := r.AddOrchestratorN("patient", func(ctx *task.OrchestrationContext) (any, error) {
		began := ctx.CurrentTimeUtc
		if err := ctx.CreateTimer(month).Await(nil); err != nil {
			return nil, err
		}
		if err := ctx.WaitForSingleEvent("never", month).Await(nil); err == nil {
			t.Error("an event came that nobody sent")
		}
		return int(ctx.CurrentTimeUtc.Sub(began) / month), nil
	}); err != nil {
		t.Fatal(err)
	}
	clock := &backend.VirtualClock{}
	c, stop := start(t, r, engine.Options{Clock: clock})
	defer stop()
	before := time.Now()
	id, err := c.ScheduleNewOrchestration(t.Context(), "patient", api.WithStartTime(before.Add(month)))
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // it needs a few steps of time, each after the other
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = c.WaitForOrchestrationCompletion(ctx, id)
		cancel()
		if err == nil {
			break
		}
		if _, err := clock.Advance(month / 2); err != nil {
			t.Fatal(err)
		}
	}
	m, err := c.FetchOrchestrationMetadata(t.Context(), id)
	if err != nil || m.SerializedOutput != "2" {
		t.Fatalf("%v %v, want the two months that it waited", m, err)
	}
	if d := m.CompletedAt.Sub(before); d < 3*month {
		t.Errorf("it ended after %v", d)
	}
	if _, err := clock.Advance(-1); err == nil {
		t.Error("time went back")
	}
}

func TestFarTimersDoNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := task.NewTaskRegistry()
		if err := r.AddOrchestratorN("far", func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CreateTimer(1<<63 - 1).Await(nil)
		}); err != nil {
			t.Fatal(err)
		}
		clock := &counting{}
		c, stop := start(t, r, engine.Options{Clock: clock})
		defer stop()
		far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, opts := range [][]api.NewOrchestrationOptions{nil, {api.WithStartTime(far)}} {
			if _, err := c.ScheduleNewOrchestration(t.Context(), "far", opts...); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		before := clock.looks.Load()
		<-time.After(time.Hour)
		if n := clock.looks.Load() - before; n > 3*3600/5 {
			t.Errorf("an idle hub looked at its clock %d times in an hour", n)
		}
	})
}
