package sidecar

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/api/protos"
)

// TestDeadlyItem: an activity that ends the process of each worker that takes it
// is convicted in the end, and those that ran beside it are not.
func TestDeadlyItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		var calls []*call
		for i := range int32(6) {
			calls = append(calls, act(d, "i", i, "a"))
		}
		const deadly = 3
		deaths := 0
		for !calls[deadly].done && deaths < 100 {
			w := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentActivityWorkItems: 4}, nil)
			for at := 0; ; at++ {
				synctest.Wait()
				if at == len(w.items()) {
					if calls[deadly].done {
						break
					}
					t.Fatalf("the worker waits for work after %d deaths", deaths)
				}
				dies := false
				for _, wi := range w.items()[at:] { // it dies before it has finished anything beside
					dies = dies || wi.GetActivityRequest().GetTaskId() == deadly
				}
				if dies {
					deaths++
					break
				}
				if !finish(d, w.items()[at]) {
					t.Error("an answer was not taken")
				}
			}
			w.stop()
			synctest.Wait()
		}
		if deaths != convictAfter || !errors.Is(calls[deadly].err, ErrConvicted) {
			t.Errorf("after %d deaths: %v", deaths, calls[deadly].err)
		}
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		for at := 0; at < len(w.items()); at++ {
			finish(d, w.items()[at])
			synctest.Wait()
		}
		for i, c := range calls {
			if i != deadly && (!c.done || c.err != nil) {
				t.Errorf("call %d: %+v", i, c)
			}
		}
		w.stop()
		checkEmpty(t, d)
	})
}

// TestTrialsOverlapAfterAWhile: suspects that take long do not wait for each other's end.
func TestTrialsOverlapAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		calls := []*call{act(d, "i", 0, "a"), act(d, "i", 1, "a")}
		for range suspectAfter {
			w := connect(d, &protos.GetWorkItemsRequest{}, nil)
			if len(w.items()) != 2 {
				t.Fatalf("got %v", w.items())
			}
			w.stop()
			synctest.Wait()
		}
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		if len(w.items()) != 1 {
			t.Fatalf("two suspects are tried at once: %v", w.items())
		}
		<-time.After(trialTime + time.Millisecond)
		synctest.Wait()
		if len(w.items()) != 2 {
			t.Fatalf("the second suspect waits still: %v", w.items())
		}
		finish(d, w.items()[0])
		finish(d, w.items()[1])
		if !calls[0].done || !calls[1].done {
			t.Error("they are not done")
		}
		w.stop()
		checkEmpty(t, d)
	})
}

// TestAShutdownIsNoLoss: what a server takes back as it ends the streams is not suspected.
func TestAShutdownIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		c := act(d, "i", 0, "a")
		for range 2 * convictAfter {
			end := make(chan any)
			w := connect(d, &protos.GetWorkItemsRequest{}, end)
			close(end)
			synctest.Wait()
			if !w.done || c.done {
				t.Fatalf("stream %v, call %+v", w.err, c)
			}
		}
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		finish(d, w.items()[0])
		if c.err != nil || !c.done {
			t.Errorf("%+v", c)
		}
		w.stop()
		checkEmpty(t, d)
	})
}
