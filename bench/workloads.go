package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/api"
)

// settle is how long an opened engine rests before anything is asked of it.
const settle = 500 * time.Millisecond

// measure warms the engine up with one small orchestration and runs the workload.
func (e *bed) measure(ctx context.Context, c config, l *line) error {
	<-time.After(settle)
	e.expect(1)
	if err := e.start(ctx, "seq", "warm", 1); err != nil {
		return err
	}
	if err := e.wait(ctx, "warm"); err != nil {
		return err
	}
	e.acts.Store(0)
	switch c.workload {
	case "W1":
		return e.many(ctx, l, "seq", c.n, c.k, c.starters)
	case "W2":
		return e.one(ctx, l, "fan", c.n)
	case "W3":
		return e.one(ctx, l, "seq", c.n)
	case "W4":
		return e.latency(ctx, l, c.n)
	case "W5":
		return e.roundTrips(ctx, l, c.n)
	case "W6":
		return e.many(ctx, l, "timer", c.n, 1000, c.starters)
	case "S1":
		return e.sleepers(ctx, c, l)
	case "L1":
		return e.lists(ctx, l, c.n)
	case "E1":
		return e.one(ctx, l, "calls", c.n)
	case "E2":
		return e.signals(ctx, l, c.n, c.k, c.starters)
	}
	return fmt.Errorf("unknown workload %q", c.workload)
}

// many measures from the first start call to the end of the last orchestrator
// function; that all are completed durably is checked after it.
func (e *bed) many(ctx context.Context, l *line, name string, n, size, starters int) error {
	done := e.expect(n)
	id := func(i int) string { return fmt.Sprintf("%s%s-%06d", e.round, name, i) }
	begin := time.Now()
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range starters {
		g.Go(func() error {
			for i := next.Add(1) - 1; int(i) < n; i = next.Add(1) - 1 {
				if err := e.start(gctx, name, id(int(i)), size); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	l.StartS = time.Since(begin).Seconds()
	err := until(ctx, done)
	l.Seconds = time.Since(begin).Seconds()
	reached := e.reached()
	l.OrchPS = float64(reached) / l.Seconds
	if name == "seq" {
		l.Acts = n * size
		l.ActPS = float64(reached*size) / l.Seconds
	}
	if err != nil {
		return fmt.Errorf("%w (%d of %d done)", err, reached, n)
	}
	for i := range n {
		if err := e.wait(ctx, api.InstanceID(id(i))); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	return nil
}

func (e *bed) one(ctx context.Context, l *line, name string, n int) error {
	done := e.expect(1)
	begin := time.Now()
	if err := e.start(ctx, name, "one", n); err != nil {
		return err
	}
	err := until(ctx, done)
	l.Seconds = time.Since(begin).Seconds()
	if err != nil {
		return err
	}
	l.Acts = n
	l.ActPS = float64(n) / l.Seconds
	return e.wait(ctx, "one")
}

// idle is how long the engine rests between two measurements.
const idle = 5 * time.Millisecond

func (e *bed) latency(ctx context.Context, l *line, n int) error {
	var client, inside []time.Duration
	begin := time.Now()
	for i := range n {
		done := e.expect(1)
		id := fmt.Sprintf("lat-%04d", i)
		t := time.Now()
		reached := make(chan time.Duration, 1)
		go func() {
			if until(ctx, done) == nil {
				reached <- time.Since(t)
			}
		}()
		if err := e.start(ctx, "seq", id, 1); err != nil {
			return err
		}
		if err := e.wait(ctx, api.InstanceID(id)); err != nil {
			return err
		}
		client = append(client, time.Since(t))
		inside = append(inside, <-reached)
		<-time.After(idle)
	}
	l.Seconds = time.Since(begin).Seconds()
	l.P50, l.P99 = quantile(client, .5), quantile(client, .99)
	l.EngP50, l.EngP99 = quantile(inside, .5), quantile(inside, .99)
	return nil
}

func (e *bed) roundTrips(ctx context.Context, l *line, n int) error {
	if err := e.start(ctx, "event", "ev", n); err != nil {
		return err
	}
	<-time.After(time.Second) // it reaches its first wait
	var trips []time.Duration
	begin := time.Now()
	for i := range n {
		t := time.Now()
		if err := e.client.RaiseEvent(ctx, "ev", "ev", i); err != nil {
			return err
		}
		select {
		case <-e.events:
		case <-ctx.Done():
			return ctx.Err()
		}
		trips = append(trips, time.Since(t))
	}
	l.Seconds = time.Since(begin).Seconds()
	l.P50, l.P99 = quantile(trips, .5), quantile(trips, .99)
	return e.wait(ctx, "ev")
}

// signals measures from the first signal until each of the entities has counted its own.
func (e *bed) signals(ctx context.Context, l *line, n, entities, starters int) error {
	begin := time.Now()
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range starters {
		g.Go(func() error {
			for i := next.Add(1) - 1; int(i) < n; i = next.Add(1) - 1 {
				if err := e.client.SignalEntity(gctx, counterID(int(i)%entities), "add"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	l.StartS = time.Since(begin).Seconds()
	for k := range entities {
		want := fmt.Sprint(n/entities + min(1, max(0, n%entities-k)))
		for {
			m, err := e.client.FetchEntityMetadata(ctx, counterID(k), true)
			if err == nil && m.SerializedState == want {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%w: entity %d counts %+v, want %s", ctx.Err(), k, m, want)
			}
			<-time.After(time.Millisecond)
		}
	}
	l.Seconds = time.Since(begin).Seconds()
	l.Acts, l.ActPS = n, float64(n)/l.Seconds
	return nil
}
