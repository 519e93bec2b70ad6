package sidecar

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api/protos"
)

// TestWorkerThatDoesNotRead loses its stream and its items, and takes nothing
// more when its sender is free again.
func TestWorkerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{SendTimeout: 10 * time.Second})
		read, sends := make(chan struct{}), 0
		ended := make(chan error, 1)
		go func() {
			ended <- d.Serve(context.Background(), &protos.GetWorkItemsRequest{}, nil, func(*protos.WorkItem) error {
				sends++
				<-read
				return nil
			})
		}()
		synctest.Wait()
		c1, c2 := act(d, "1", 1, "a"), act(d, "1", 2, "a")
		w := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentActivityWorkItems: 1}, nil)
		<-time.After(11 * time.Second)
		synctest.Wait()
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("its stream ends with %v", err)
		}
		close(read)
		synctest.Wait()
		for n := range 2 {
			if got := len(w.items()); got != n+1 {
				t.Fatalf("the other worker has %d items, want %d", got, n+1)
			}
			finish(d, w.items()[n])
		}
		if !c1.done || !c2.done || sends != 1 {
			t.Errorf("done: %v, %v after %d sends", c1.done, c2.done, sends)
		}
		w.stop()
		checkEmpty(t, d)
	})
}
