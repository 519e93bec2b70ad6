package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// ledger is the state of an entity of the crash test: how often it was told
// something, and what came out of order.
type ledger struct {
	Count int
	Bad   []int `json:",omitempty"`
}

func ledgerID(key string) api.EntityID { return api.NewEntityID("ledger", key) }

// addLedgers registers the entity, and an orchestration that tells two of them
// something in a critical section.
func addLedgers(r *task.TaskRegistry) error {
	return errors.Join(
		r.AddEntityN("ledger", func(c *task.EntityContext) (any, error) {
			var s ledger
			if err := c.GetState(&s); err != nil {
				return nil, err
			}
			if c.Operation == "next" {
				n := -1
				if err := c.GetInput(&n); err != nil {
					return nil, err
				}
				if n != s.Count {
					s.Bad = append(s.Bad, n)
				}
			}
			s.Count++
			return s.Count, c.SetState(s)
		}),
		r.AddOrchestratorN("pair", func(c *task.OrchestrationContext) (any, error) {
			release, err := c.LockEntities(ledgerID("left"), ledgerID("right"))
			if err != nil {
				return nil, err
			}
			defer release()
			var left, right int
			err = errors.Join(c.CallEntity(ledgerID("right"), "add").Await(&right), c.CallEntity(ledgerID("left"), "add").Await(&left))
			if err == nil && left != right {
				err = fmt.Errorf("inside of the section one has %d and the other %d", left, right)
			}
			return "same", err
		}),
	)
}

// signalLedger tells the ledger of a starter of one process the next number.
func signalLedger(ctx context.Context, c backend.Client, acks io.Writer, name string, n int) error {
	err := c.SignalEntity(ctx, ledgerID(name), "next", api.WithSignalInput(n))
	if err == nil {
		fmt.Fprintf(acks, "signal %s %d\n", name, n)
	}
	return err
}

// verifyLedgers checks that each acknowledged signal was applied once and in
// order, and that the pairs are in step.
func verifyLedgers(t *testing.T, c backend.Client, acked map[string]int) {
	t.Helper()
	read := func(key string) (s ledger) {
		t.Helper()
		m, err := c.FetchEntityMetadata(t.Context(), ledgerID(key), true)
		if err == nil {
			err = m.ReadState(&s)
		}
		if err != nil || m.LockedBy != "" || m.BacklogQueueSize != 0 {
			t.Errorf("ledger %s: %+v %v", key, m, err)
		}
		return s
	}
	signals := 0
	for name, n := range acked {
		signals += n
		// One more than was acknowledged may be there: the last answer may have been lost.
		if s := read(name); s.Count < n || s.Count > n+1 || len(s.Bad) > 0 {
			t.Errorf("ledger %s: %+v, %d signals were acknowledged", name, s, n)
		}
	}
	pairs := 0
	for q := (api.InstanceQuery{Name: "pair", PageSize: 1000}); ; {
		page, err := c.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Instances {
			if m.IsComplete() { // one that was not acknowledged may be there too
				pairs++
			}
		}
		if q.Token = page.Token; q.Token == "" {
			break
		}
	}
	if left, right := read("left"), read("right"); left.Count != pairs || right.Count != pairs {
		t.Errorf("%d pairs are complete; they counted %d and %d", pairs, left.Count, right.Count)
	}
	t.Logf("%d acknowledged signals to %d entities, %d critical sections", signals, len(acked), pairs)
}

// idleLedgers waits until no ledger has anything to do.
func idleLedgers(ctx context.Context, c backend.Client) error {
	for q := (api.EntityQuery{PageSize: 1000, IncludeTransient: true}); ; {
		page, err := c.QueryEntities(ctx, q)
		if err != nil {
			return err
		}
		for _, m := range page.Entities {
			for m.BacklogQueueSize > 0 || m.LockedBy != "" {
				<-time.After(5 * time.Millisecond)
				if m, err = c.FetchEntityMetadata(ctx, m.InstanceID, false); errors.Is(err, api.ErrInstanceNotFound) {
					break // it has no state
				} else if err != nil {
					return err
				}
			}
		}
		if q.ContinuationToken = page.ContinuationToken; q.ContinuationToken == "" {
			return nil
		}
	}
}

func parseSignal(fields []string, into map[string]int) {
	if len(fields) == 3 && strings.HasPrefix(fields[0], "signal") {
		into[fields[1]]++
	}
}
