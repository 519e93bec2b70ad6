// Package faultstore does harm to stores, for tests: faults between an engine
// and its store, and damage to what is stored.
package faultstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/perdure/perdure/backend/internal/store"
)

// Seam is what comes between an engine and its store.
type Seam interface {
	Commit(ctx context.Context, write func() error) error
	Verify(ctx context.Context, ask func() (bool, error)) (bool, error)
}

// Store is a store.Store with faults. One value stands for one owner: a test
// that crashes an engine makes a new one over the same inner store.
type Store struct {
	store.Store
	seam Seam
}

// New wraps inner.
func New(inner store.Store, seam Seam) *Store { return &Store{Store: inner, seam: seam} }

// Commit writes the batch or meets its fault.
func (s *Store) Commit(ctx context.Context, b *store.Batch) error {
	return s.seam.Commit(ctx, func() error { return s.Store.Commit(ctx, damage(b)) })
}

// Committed asks the inner store, or meets its fault.
func (s *Store) Committed(ctx context.Context, b *store.Batch) (bool, error) {
	return s.seam.Verify(ctx, func() (bool, error) { return s.Store.Committed(ctx, b) })
}

// Harm is what happens to the stored history of one instance.
type Harm uint8

// The kinds of harm.
const (
	Unreadable Harm = iota // one garbage record is left of it
	Lost                   // it is gone, and the messages with it
	Huge                   // 90 MB are added
)

// Damage opens the store, which nobody uses, and harms the history of an instance.
func Damage(ctx context.Context, s store.Store, id string, h Harm) error {
	_, marks, err := s.Open(ctx)
	if err != nil {
		return fmt.Errorf("damage %s: %w", id, err)
	}
	row, err := s.ByID(ctx, id)
	if err == nil {
		err = harm(ctx, s, marks, row.Key, h)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("damage %s: %w", id, err)
	}
	return nil
}

func harm(ctx context.Context, s store.Store, m store.Marks, key int64, h Harm) error {
	b := &store.Batch{Epoch: m.Epoch}
	if h != Huge {
		b.Truncate = []store.Truncate{{Key: key, Before: m.LSN + 1}}
	}
	var records [][]byte
	switch h {
	case Unreadable:
		records = [][]byte{{0xff, 0xff, 0xff, 0xff}}
	case Huge:
		// An event of a kind that nobody looks at, as long as its record: a field of an unknown number.
		event := protowire.AppendBytes(protowire.AppendTag([]byte{0x72, 0x00}, 1000, protowire.BytesType), make([]byte, 15_000_000))
		records = slices.Repeat([][]byte{protowire.AppendBytes(nil, event)}, 6)
	case Lost:
		msgs, err := s.Inbox(ctx, key)
		if err != nil {
			return err
		}
		for _, msg := range msgs {
			b.Consume = append(b.Consume, msg.Seq)
		}
	}
	for n, events := range records {
		b.History = append(b.History, store.HistoryRow{LSN: m.LSN + int64(n) + 1, Key: key, Events: events})
	}
	return s.Commit(ctx, b)
}

// Messages counts the messages of all inboxes.
func Messages(ctx context.Context, s store.Store) (int, error) {
	n := 0
	for after := int64(0); ; {
		rows, err := s.Query(ctx, store.Filter{AfterKey: after, Limit: 1000})
		if err != nil {
			return 0, fmt.Errorf("count messages: %w", err)
		}
		for _, r := range rows {
			after = r.Key
			msgs, err := s.Inbox(ctx, r.Key)
			if err != nil {
				return 0, fmt.Errorf("count messages: %w", err)
			}
			n += len(msgs)
		}
		if len(rows) < 1000 {
			return n, nil
		}
	}
}
