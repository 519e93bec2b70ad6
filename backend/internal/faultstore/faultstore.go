// Package faultstore injects faults between an engine and its store, for tests:
// commits that fail, whose answer is lost, that are slow, a disk that is full
// for a while, and the death of the owner.
package faultstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/backend/internal/store"
)

// Fault is what happens to one commit.
type Fault uint8

// The faults.
const (
	None       Fault = iota
	Fail             // nothing is written
	LoseAnswer       // the batch is written, and the answer is an error
	Unsure           // as LoseAnswer, and Committed fails for the time Span besides
	Full             // nothing is written for the time Span
	Slow             // the commit takes the time Span
	Die              // nothing is written, and another owner has taken over
	DieAfter         // the batch is written, then as Die: the owner never learns of it
)

// ErrInjected is the error of all faults but Die and DieAfter, which are store.ErrStaleEpoch.
var ErrInjected = errors.New("injected fault")

// Store is a store.Store with faults. One value stands for one owner: a test
// that crashes an engine makes a new one over the same inner store.
type Store struct {
	store.Store
	choose func(n int) Fault
	span   time.Duration

	one    sync.Mutex // held over a commit of the inner store, and so by Kill
	mu     sync.Mutex
	n      int
	dead   bool
	full   time.Time // until when
	unsure time.Time // until when
}

// New wraps inner. choose picks the fault of the n-th commit, from 0; span is
// how long those last that last.
func New(inner store.Store, span time.Duration, choose func(n int) Fault) *Store {
	return &Store{Store: inner, choose: choose, span: span}
}

// Kill makes the owner a dead one: each commit from now on is
// store.ErrStaleEpoch. A commit that is under way is over when Kill returns.
func (s *Store) Kill() {
	s.one.Lock()
	defer s.one.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

// Dead reports whether the owner was killed, or died by a fault.
func (s *Store) Dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// Commit writes the batch or meets its fault.
func (s *Store) Commit(ctx context.Context, b *store.Batch) error {
	s.mu.Lock()
	f := s.choose(s.n)
	s.n++
	now := time.Now()
	switch {
	case f == Full && s.full.Before(now):
		s.full = now.Add(s.span)
	case f == Unsure:
		s.unsure = now.Add(s.span)
	case f == Die:
		s.dead = true
	}
	full := now.Before(s.full)
	s.mu.Unlock()
	switch {
	case full:
		return fmt.Errorf("%w: the disk is full", ErrInjected)
	case f == Fail:
		return fmt.Errorf("%w: not written", ErrInjected)
	case f == Slow:
		<-time.After(s.span)
	}
	err := s.commit(ctx, b)
	switch {
	case err != nil || (f != LoseAnswer && f != Unsure && f != DieAfter):
		return err
	case f == DieAfter:
		s.Kill()
		return fmt.Errorf("%w: %w", store.ErrStaleEpoch, ErrInjected)
	}
	return fmt.Errorf("%w: the answer is lost", ErrInjected)
}

func (s *Store) commit(ctx context.Context, b *store.Batch) error {
	s.one.Lock()
	defer s.one.Unlock()
	if s.Dead() {
		return fmt.Errorf("%w: the owner is dead", store.ErrStaleEpoch)
	}
	return s.Store.Commit(ctx, damage(b))
}

// Committed asks the inner store, unless it is Unsure.
func (s *Store) Committed(ctx context.Context, b *store.Batch) (bool, error) {
	s.mu.Lock()
	unsure := time.Now().Before(s.unsure)
	s.mu.Unlock()
	if unsure {
		return false, fmt.Errorf("%w: committed or not", ErrInjected)
	}
	return s.Store.Committed(ctx, b)
}

// Close leaves the inner store alone once it is another owner's.
func (s *Store) Close() error {
	if s.Dead() {
		return nil
	}
	return s.Store.Close()
}
