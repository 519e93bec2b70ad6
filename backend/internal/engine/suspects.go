package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// User code may kill the process: os.Exit, a stack that overflows, a call into C, all
// the memory. Nothing in the process sees it, so recovery counts, durably, how
// often it found an instance active with no turn of its own since. From
// suspectAfter on the instance is a suspect: it is held back and tried alone, so
// that the count tells who did it. At convictAfter its open activities fail
// without another run, and at failAfter the instance does.
const (
	suspectAfter = 3
	convictAfter = 10
	failAfter    = 13

	// trialTime is how long the next suspect waits for the one before, and
	// acquitTime how long the process must live on before a suspect that is still
	// at work is none any more.
	trialTime  = 5 * time.Second
	acquitTime = time.Minute

	// pardonTime bounds what Stop spends on forgetting the counts.
	pardonTime = time.Second
)

// suspect decides what recovery does with an active instance. The mutex is held.
func (e *Engine) suspect(i *instance) {
	if !e.recovering || !i.row.Unfinished {
		return
	}
	i.pins++ // until it is counted or tried
	if i.row.Attempts < suspectAfter {
		e.counted = append(e.counted, i)
		return
	}
	i.held = true
	e.suspects = append(e.suspects, i)
}

// count stores that recovery found the instances active.
func (e *Engine) count(insts []*instance) {
	if len(insts) == 0 {
		return
	}
	if err := e.submit(attempts(insts, func(n int32) int32 { return n + 1 })); err != nil {
		e.log.Errorf("recovery is not counted: %v", err)
	}
	for _, i := range insts {
		e.unpin(i)
	}
}

// attempts is an op that changes the counters of instances, without those that have a turn.
func attempts(insts []*instance, next func(int32) int32) *op {
	rows := make([]*store.Instance, len(insts))
	return &op{
		build: func(b *builder) error {
			for n, i := range insts {
				rows[n] = nil
				now := b.rowOf(i)
				if i.gone || now == nil || !now.Unfinished || i.turn != nil || now.Attempts == next(now.Attempts) {
					continue
				}
				row := *now
				row.Attempts = next(row.Attempts)
				rows[n] = &row
				b.update(&row)
			}
			return nil
		},
		apply: func(err error) {
			for n, row := range rows {
				if err == nil && row != nil && insts[n].row.Key == row.Key {
					insts[n].row = row
				}
			}
		},
	}
}

// trials lets the suspects go on, one after the other, the most suspect first.
// It returns once all are acquitted, convicted or over, or when ctx ends.
func (e *Engine) trials(ctx context.Context, suspects []*instance) {
	type witness struct {
		i  *instance
		at time.Time
	}
	var alive []witness
	rand.Shuffle(len(suspects), func(a, b int) { suspects[a], suspects[b] = suspects[b], suspects[a] })
	slices.SortStableFunc(suspects, func(a, b *instance) int { return int(b.row.Attempts - a.row.Attempts) })
	for len(suspects)+len(alive) > 0 && ctx.Err() == nil {
		for len(alive) > 0 && time.Now().After(alive[0].at) {
			e.acquit(alive[0].i)
			alive = alive[1:]
		}
		var over <-chan struct{}
		pause := trialTime
		if len(suspects) > 0 {
			i := suspects[0]
			suspects = suspects[1:]
			over = e.try(i)
			alive = append(alive, witness{i, time.Now().Add(acquitTime)})
		} else if len(alive) > 0 {
			pause = time.Until(alive[0].at) + time.Millisecond
		}
		t := time.NewTimer(pause)
		select {
		case <-over:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// try lets one suspect go on, after counting it. The channel is closed with its next turn.
func (e *Engine) try(i *instance) <-chan struct{} {
	if err := e.submit(attempts([]*instance{i}, func(n int32) int32 { return n + 1 })); err != nil {
		e.log.Errorf("%s: its trial is not counted: %v", i.id, err)
	}
	over := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	if i.gone || i.finished() || e.closed {
		close(over)
		return over
	}
	i.trial = over
	i.held = false
	n := i.row.Attempts
	e.log.Warnf("%s was at work when the process died, %d times: it goes on alone", i.id, n)
	switch {
	case n >= failAfter:
		i.retry = n // too often for a turn
		i.again = true
	case n >= convictAfter && len(i.tasks) > 0:
		e.convict(i, n)
	default:
		for _, t := range i.openTasks() {
			e.offerTask(t)
		}
	}
	e.makeReady(i)
	return over
}

// convict fails the open activities of an instance. The mutex is held.
func (e *Engine) convict(i *instance, n int32) {
	for _, t := range i.openTasks() {
		e.dropTask(t)
		delete(i.tasks, t.event.GetEventId())
		i.inbox = append(i.inbox, &message{event: &backend.HistoryEvent{
			EventId: -1, Timestamp: timestamppb.New(e.Now()),
			EventType: &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
				TaskScheduledId: t.event.GetEventId(),
				FailureDetails: &protos.TaskFailureDetails{
					ErrorType:      "ActivityPoisoned",
					ErrorMessage:   fmt.Sprintf("the process died %d times while activity %q ran", n-1, t.event.GetTaskScheduled().GetName()),
					IsNonRetriable: true,
				},
			}},
		}})
	}
}

// acquit ends the suspicion against an instance that did not kill the process.
func (e *Engine) acquit(i *instance) {
	if err := e.submit(attempts([]*instance{i}, func(int32) int32 { return 0 })); err != nil {
		e.log.Warnf("%s stays a suspect: %v", i.id, err)
	}
	e.unpin(i)
}

// judged ends the trial of an instance that made a turn. The mutex is held.
func (i *instance) judged() {
	if i.trial != nil {
		close(i.trial)
		i.trial = nil
	}
	i.held = false
}

// pardon forgets, at a clean stop, what recovery counted.
func (e *Engine) pardon() {
	var insts []*instance
	e.mu.Lock()
	if !e.closed && !e.fenced {
		for _, i := range e.byID {
			if i.row != nil && i.row.Attempts != 0 && !i.finished() {
				insts = append(insts, i)
			}
		}
	}
	e.mu.Unlock()
	if len(insts) == 0 {
		return
	}
	done := make(chan error, 1)
	go func() { done <- e.submit(attempts(insts, func(int32) int32 { return 0 })) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(pardonTime): // the store does not answer; shut ends the wait of the goroutine
		err = context.DeadlineExceeded
	}
	if err != nil {
		e.log.Warnf("what recovery counted stays: %v", err)
	}
}
