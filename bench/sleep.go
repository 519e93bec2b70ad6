package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/api"
)

const (
	aYear   = 365 * 24 * 3600 * 1000 // ms
	besideN = 2000                   // orchestrations of the W1 beside the sleepers
)

// sleepers runs W1 on the empty hub, puts n orchestrations to sleep for a year,
// stops, opens the hub again, and runs W1 beside them. Seconds are those of the
// reopening; OrchPS is W1 beside the sleepers.
func (e *bed) sleepers(ctx context.Context, c config, l *line) error {
	if c.grpc {
		return errors.New("S1 opens its hub again: leave out -grpc")
	}
	var empty line
	if err := e.many(ctx, &empty, "seq", besideN, c.k, c.starters); err != nil {
		return fmt.Errorf("empty hub: %w", err)
	}
	began := time.Now()
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range 256 { // so that many share a commit
		g.Go(func() error {
			for i := next.Add(1) - 1; int(i) < c.n; i = next.Add(1) - 1 {
				if err := e.start(gctx, "timer", fmt.Sprintf("sleeper-%08d", i), aYear); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("put to sleep: %w", err)
	}
	filling := time.Since(began)
	if err := e.stop(ctx); err != nil {
		return err
	}
	e.stop = func(context.Context) error { return nil }
	e.be, e.client = nil, nil
	without := heap()
	be, err := c.backend()
	if err != nil {
		return err
	}
	began = time.Now()
	again, err := open(ctx, c, be)
	if err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	opened := time.Since(began)
	again.round = "beside-"
	<-time.After(settle)
	with := heap()
	err = again.many(ctx, l, "seq", besideN, c.k, c.starters)
	if counts, cerr := again.client.CountInstances(ctx, api.InstanceQuery{Name: "timer"}); cerr != nil {
		err = errors.Join(err, cerr)
	} else if counts[api.RUNTIME_STATUS_RUNNING] != int64(c.n) {
		err = errors.Join(err, fmt.Errorf("%d are asleep: %v", c.n, counts))
	}
	e.acts.Add(again.acts.Load())
	l.Seconds = opened.Seconds()
	l.Note = fmt.Sprintf("seconds are those of the reopening; put to sleep in %.1f s; live heap %.1f MB with the sleepers, %.1f MB after the stop; "+
		"W1 beside them %.0f orch/s, in the empty hub %.0f", filling.Seconds(), with, without, l.OrchPS, empty.OrchPS)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return errors.Join(err, again.stop(stopping))
}

// heap is what is live, in MB.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
