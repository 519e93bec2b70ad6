// Package storetest is the conformance suite of the Store seam: a store is
// driven with random batches beside the model of package memstore, and both must
// answer every read alike.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
)

// Run drives what open returns, a store that is not open yet, with several seeds.
func Run(t *testing.T, open func(testing.TB) store.Store) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			d := &driver{t: t, r: rand.New(rand.NewPCG(seed, 1)), real: open(t), model: memstore.New()}
			d.open(true)
			for range 60 {
				d.commit()
				d.compare()
				if d.r.IntN(25) == 0 {
					if err := d.real.Close(); err != nil {
						t.Fatal(err)
					}
					d.open(false)
				}
			}
			d.refuse()
			if err := d.real.Destroy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := d.real.Destroy(t.Context()); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("second Destroy: %v", err)
			}
		})
	}
}

type driver struct {
	t     *testing.T
	r     *rand.Rand
	real  store.Store
	model *memstore.Store
	epoch int64
	key   int64
	lsn   int64
	seq   int64
	live  []int64
	seqs  []int64
}

func (d *driver) open(first bool) {
	d.t.Helper()
	created, m, err := d.real.Open(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	_, want, err := d.model.Open(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if created != first || m.Epoch != want.Epoch {
		d.t.Fatalf("Open: created %v, epoch %d, want %v and %d", created, m.Epoch, first, want.Epoch)
	}
	d.epoch = m.Epoch
	d.key, d.lsn, d.seq = max(d.key, m.Key), max(d.lsn, m.LSN), max(d.seq, m.Seq)
}

func (d *driver) text() *string {
	switch s := []string{"", "null", "日本語 ☕", "a'b\"c\x01", string(make([]byte, 9000))}; d.r.IntN(7) {
	case 0, 1:
		return nil
	default:
		return &s[d.r.IntN(len(s))]
	}
}

func (d *driver) blob() []byte {
	b := make([]byte, d.r.IntN(6000)+1)
	for i := range b {
		b[i] = byte(d.r.Uint32())
	}
	return b
}

func (d *driver) row(key int64) *store.Instance {
	unfinished := d.r.IntN(2) == 0
	row := &store.Instance{
		Key: key, ID: fmt.Sprintf("%s%d", []string{"a", "a%", "a_", "É", "|x/"}[key%5], key), Partition: int32(key % 256),
		ExecutionID: fmt.Sprint("exec", key), Name: []string{"n1", "n2"}[d.r.IntN(2)], Version: d.text(), Status: int32(d.r.IntN(8)),
		Unfinished: unfinished, CreatedAt: d.r.Int64N(1000) + 1, UpdatedAt: d.r.Int64N(1000), ScheduledAt: d.r.Int64N(3),
		Attempts: int32(d.r.IntN(3)), ParentTask: int32(d.r.IntN(9)), Stalled: []string{"", "why"}[d.r.IntN(2)],
		CustomStatus: d.text(), Input: d.text(), Output: d.text(),
	}
	if unfinished {
		row.Due = []int64{0, store.Far, d.r.Int64N(100) + 1}[d.r.IntN(3)]
	} else {
		row.CompletedAt = d.r.Int64N(20) + 1
	}
	if d.r.IntN(3) == 0 {
		row.ParentID, row.ParentExec = "a1", "e"
	}
	if d.r.IntN(2) == 0 {
		row.Tags, row.Failure = []byte(`{"k":"v"}`), d.blob()
	}
	return row
}

func (d *driver) commit() {
	d.t.Helper()
	b := &store.Batch{Epoch: d.epoch}
	if len(d.live) > 3 && d.r.IntN(4) == 0 {
		n := d.r.IntN(len(d.live))
		b.Delete = append(b.Delete, d.live[n])
		d.live = append(d.live[:n:n], d.live[n+1:]...)
	}
	for range d.r.IntN(4) {
		d.key++
		b.Insert = append(b.Insert, d.row(d.key))
		d.live = append(d.live, d.key)
	}
	for range d.r.IntN(4) {
		if len(d.live) == 0 {
			break
		}
		key := d.live[d.r.IntN(len(d.live))]
		b.Update = append(b.Update, d.row(key))
		d.lsn++
		b.History = append(b.History, store.HistoryRow{LSN: d.lsn, Key: key, At: d.r.Int64N(2000), Events: d.blob()})
		if d.r.IntN(9) == 0 {
			b.Truncate = append(b.Truncate, store.Truncate{Key: key, Before: d.lsn})
		}
		d.seq++
		b.Inbox = append(b.Inbox, store.InboxRow{Seq: d.seq, Key: key, Event: d.blob()})
		d.seqs = append(d.seqs, d.seq)
		if d.r.IntN(2) == 0 {
			b.Consume = append(b.Consume, d.seqs[d.r.IntN(len(d.seqs))])
		}
	}
	ctx := d.t.Context()
	if err := d.real.Commit(ctx, b); err != nil {
		d.t.Fatalf("commit: %v", err)
	}
	if err := d.model.Commit(ctx, b); err != nil {
		d.t.Fatalf("model: %v", err)
	}
	d.same("Committed", func(s store.Store) (any, error) { return s.Committed(ctx, b) })
}

func (d *driver) same(what string, f func(store.Store) (any, error)) {
	d.t.Helper()
	got, err := f(d.real)
	want, werr := f(d.model)
	if (err == nil) != (werr == nil) || errors.Is(err, store.ErrNotFound) != errors.Is(werr, store.ErrNotFound) {
		d.t.Fatalf("%s: error %v, the model's %v", what, err, werr)
	}
	if err == nil {
		if diff := cmp.Diff(want, got); diff != "" {
			d.t.Fatalf("%s (-model +store):\n%s", what, diff)
		}
	}
}

func (d *driver) compare() {
	d.t.Helper()
	ctx := d.t.Context()
	key := d.r.Int64N(d.key + 2)
	d.same("ByKey", func(s store.Store) (any, error) { return s.ByKey(ctx, key) })
	d.same("ByID", func(s store.Store) (any, error) { return s.ByID(ctx, fmt.Sprintf("a%d", key)) })
	d.same("Inbox", func(s store.Store) (any, error) { return s.Inbox(ctx, key) })
	after := d.r.Int64N(d.lsn+1) * d.r.Int64N(2) // each second time from the beginning
	d.same("History", func(s store.Store) (any, error) {
		var rows []store.HistoryRow
		err := s.History(ctx, key, after, func(r store.HistoryRow) error { rows = append(rows, r); return nil })
		return rows, err
	})
	limit := d.r.IntN(6) + 1
	d.same("Active", func(s store.Store) (any, error) { return nonNil(s.Active(ctx, key/2, limit)) })
	due := store.DueKey{Due: key % 100, Key: key}
	d.same("DueAfter", func(s store.Store) (any, error) { return nonNil(s.DueAfter(ctx, due, limit)) })
	f := store.Filter{
		Limit: limit, AfterKey: key / 3, IDPrefix: []string{"", "a", "a%", "a_", "É", "|"}[d.r.IntN(6)],
		NotPrefix: []string{"", "", "a", "a1", "|"}[d.r.IntN(5)],
		Name:      []string{"", "n1"}[d.r.IntN(2)], Payloads: d.r.IntN(2) == 0, ParentID: []string{"", "", "a1"}[d.r.IntN(3)],
		CreatedFrom: d.r.Int64N(300), CreatedTo: d.r.Int64N(2) * 700, Newest: d.r.IntN(2) == 0,
	}
	if d.r.IntN(2) == 0 {
		f.Statuses = []int32{1, int32(d.r.IntN(8))}
	}
	if d.r.IntN(3) == 0 {
		f.Newest = false
		f.ByCompletion, f.AfterTime, f.AfterID, f.CompletedTo = true, d.r.Int64N(20), "a1", d.r.Int64N(2)*15
	}
	d.same(fmt.Sprintf("Query %+v", f), func(s store.Store) (any, error) { return nonNil(s.Query(ctx, f)) })
	d.same(fmt.Sprintf("Count %+v", f), func(s store.Store) (any, error) { return s.(store.Counter).Count(ctx, f) })
}

func nonNil[T any](s []T, err error) (any, error) { return append([]T{}, s...), err }

// refuse checks that a batch with a stale epoch or a taken id writes nothing.
func (d *driver) refuse() {
	d.t.Helper()
	ctx := context.WithoutCancel(d.t.Context())
	d.key++
	row := d.row(d.key)
	if err := d.real.Commit(ctx, &store.Batch{Epoch: d.epoch - 1, Insert: []*store.Instance{row}}); !errors.Is(err, store.ErrStaleEpoch) {
		d.t.Errorf("a stale epoch: %v", err)
	}
	twin := *row
	twin.Key++
	b := &store.Batch{Epoch: d.epoch, Insert: []*store.Instance{row, &twin}}
	if err := d.real.Commit(ctx, b); err == nil {
		d.t.Error("a taken id was inserted")
	}
	if done, err := d.real.Committed(ctx, b); done || err != nil {
		d.t.Errorf("Committed after a refused batch: %v %v", done, err)
	}
	if _, err := d.real.ByKey(ctx, row.Key); !errors.Is(err, store.ErrNotFound) {
		d.t.Errorf("a refused batch left a row: %v", err)
	}
}
