package sidecar

import (
	"errors"
	"fmt"
	"time"
)

// What a worker runs may end its process. An item whose worker went away with it
// goes to others at once. From suspectAfter such losses on it is a suspect: a
// worker tries one of them at a time, so that those which merely ran beside the bad one get away
// from it. At convictAfter it goes to nobody any more.
const (
	suspectAfter = 3
	convictAfter = 10

	// trialTime is how long the next suspect waits for the one before, and
	// acquitTime how long a worker that goes away must have had an item for that to be none of its doing.
	trialTime  = 5 * time.Second
	acquitTime = time.Minute
)

var (
	// ErrWorkerLost says that the worker which had the item went away soon, and
	// that there is no other: this was a try.
	ErrWorkerLost = errors.New("the worker that had it was lost")
	// ErrConvicted says that too many workers went away with the item for another try.
	ErrConvicted = errors.New("the workers that had it were lost")
)

func (it *item) suspect() bool { return it.losses >= suspectAfter }

// The methods below want Dispatcher.mu to be held.

// lost offers an item whose worker went away with it to others.
func (d *Dispatcher) lost(it *item) {
	if time.Since(it.since) < acquitTime {
		it.losses++
		it.lost = true
	}
	if it.losses >= convictAfter {
		d.remove(it)
		it.done <- answer{err: fmt.Errorf("%w: %d, one after the other", ErrConvicted, it.losses)}
		return
	}
	d.offer(it)
}

// try notes that the stream tries a suspect.
func (d *Dispatcher) try(s *stream, it *item) {
	if !it.suspect() {
		return
	}
	s.trying = it
	time.AfterFunc(trialTime, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if s.trying == it {
			s.trying = nil
			d.refill(s)
		}
	})
}

// ended reports whether the end of the stream was not the worker's doing.
func (d *Dispatcher) ended(s *stream) bool {
	if d.draining {
		return true
	}
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}
