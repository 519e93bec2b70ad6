package backend

import (
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/api"
)

// Clock is where a task hub takes the time from: of its events, of what is
// due and of what CurrentTimeUtc returns, in any SDK. Its methods are called by many
// goroutines and must not block.
type Clock interface {
	// Now never goes back by much: what is due once stays due.
	Now() time.Time
	// Jumped returns a channel that is closed when Now next goes faster than
	// time does, so that what has become due is done at once; nil never is.
	Jumped() <-chan struct{}
}

// Timekeeper is the optional interface of a Backend that has its own clock.
type Timekeeper interface {
	Now() time.Time
}

// timeIn is the time in the task hub.
func timeIn(be Backend) time.Time {
	if k, ok := be.(Timekeeper); ok {
		return k.Now()
	}
	return time.Now()
}

// SystemClock is the clock of the machine.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// Jumped returns nil.
func (SystemClock) Jumped() <-chan struct{} { return nil }

// VirtualClock is the clock of the machine, set ahead by what Advance was
// given: a test need not wait for a timer of a month. The zero value is ready for use.
type VirtualClock struct {
	mu     sync.Mutex
	ahead  time.Duration
	jumped chan struct{}
}

// Now is the machine's time and what it is set ahead.
func (c *VirtualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Jumped returns a channel that the next Advance closes.
func (c *VirtualClock) Jumped() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.jumped == nil {
		c.jumped = make(chan struct{})
	}
	return c.jumped
}

// Advance sets the clock ahead by d and returns the new time. It does not wait for
// what has become due. A negative d is api.ErrInvalidInput, as is a sum of more
// than 292 years: time does not go back.
func (c *VirtualClock) Advance(d time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d < 0 || c.ahead+d < 0 {
		return time.Time{}, fmt.Errorf("%w: cannot advance the clock by %v", api.ErrInvalidInput, d)
	}
	c.ahead += d
	if c.jumped != nil {
		close(c.jumped)
		c.jumped = nil
	}
	return time.Now().Add(c.ahead), nil
}
