package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// Fault is what happens to one write transaction.
type Fault uint8

// The faults. An error of each is ErrInjected, where nothing else is said.
const (
	NoFault     Fault = iota
	FailBefore        // nothing is written
	LoseAnswer        // the transaction is written, and the answer is an error
	LoseContact       // as LoseAnswer, and for the time of the span Verify fails besides
	DiskFull          // nothing is written for the time of the span: syscall.ENOSPC
	Slow              // the transaction takes the time of the span longer
	Fence             // nothing is written, now and ever: another owner has taken over, backend.ErrWorkItemLockLost
	FenceAfter        // the transaction is written, then as Fence: its owner never learns of it
)

// ErrInjected is the error of a fault.
var ErrInjected = errors.New("injected fault")

// Faults comes between one backend and its database: one value stands for one
// owner, so that a test which opens the hub anew makes a new one.
type Faults struct {
	choose func(n int) Fault
	span   time.Duration

	one sync.Mutex // held over a write, and so by Kill

	mu     sync.Mutex
	n      int
	dead   bool
	full   time.Time // until when
	unsure time.Time // until when
}

// NewFaults returns faults of which choose picks that of the n-th write, from
// 0; it may be called by many goroutines. The span is how long those last that last.
func NewFaults(span time.Duration, choose func(n int) Fault) *Faults {
	return &Faults{choose: choose, span: span}
}

// Commit calls write, a whole write transaction, or meets its fault.
func (f *Faults) Commit(ctx context.Context, write func() error) error {
	fault, full := f.next()
	switch {
	case full:
		return fmt.Errorf("%w: %w", ErrInjected, syscall.ENOSPC)
	case fault == FailBefore:
		return fmt.Errorf("%w: not written", ErrInjected)
	case fault == Slow:
		select {
		case <-time.After(f.span):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := f.write(write)
	switch {
	case err != nil || (fault != LoseAnswer && fault != LoseContact && fault != FenceAfter):
		return err
	case fault == FenceAfter:
		f.Kill()
		return errFenced()
	}
	return fmt.Errorf("%w: the answer is lost", ErrInjected)
}

func errFenced() error {
	return fmt.Errorf("%w: %w: %w", ErrInjected, backend.ErrWorkItemLockLost, store.ErrStaleEpoch)
}

// next picks the fault, and says whether the disk is full.
func (f *Faults) next() (Fault, bool) {
	f.mu.Lock()
	n := f.n
	f.n++
	f.mu.Unlock()
	fault := f.choose(n)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	switch {
	case fault == DiskFull && f.full.Before(now):
		f.full = now.Add(f.span)
	case fault == LoseContact:
		f.unsure = now.Add(f.span)
	case fault == Fence:
		f.dead = true
	}
	return fault, now.Before(f.full)
}

func (f *Faults) write(write func() error) error {
	f.one.Lock()
	defer f.one.Unlock()
	if f.Dead() {
		return errFenced()
	}
	return write()
}

// Verify calls ask, which finds out whether a transaction whose answer was lost
// was written, unless contact is lost. Only a backend that asks needs it.
func (f *Faults) Verify(_ context.Context, ask func() (bool, error)) (bool, error) {
	f.mu.Lock()
	unsure := time.Now().Before(f.unsure)
	f.mu.Unlock()
	if unsure {
		return false, fmt.Errorf("%w: written or not", ErrInjected)
	}
	return ask()
}

// Kill makes the owner a fenced one. A write that is under way is over when it returns.
func (f *Faults) Kill() {
	f.one.Lock()
	defer f.one.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// Dead reports whether the owner was killed, or fenced by a fault.
func (f *Faults) Dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// Commits is how often Commit was called.
func (f *Faults) Commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
