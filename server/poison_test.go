package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// TestAnActivityThatKillsItsWorkers fails after some workers, and everything else goes on.
func TestAnActivityThatKillsItsWorkers(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	w.client = b.client
	w.scripts["good"] = steps(`"good"`, call("good"))
	w.scripts["calls deadly"] = steps(`"never"`, call("deadly"))
	w.activities["good"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) { return `1`, nil }
	b.startAs(t, "calls deadly", "activity")
	b.startAs(t, "good", "good")
	over := func(id string) bool { return b.state(t, id).GetOrchestrationStatus() == api.RUNTIME_STATUS_FAILED }
	deaths := 0
	for deaths < 100 && !over("activity") {
		ctx, die := context.WithTimeout(t.Context(), time.Second) // it may be that there is nothing to do
		s, err := b.client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for ctx.Err() == nil {
			item, err := s.Recv()
			if err != nil {
				break
			}
			if item.GetActivityRequest().GetName() == "deadly" {
				deaths++
				die()
			} else if w.run(ctx, item) != nil {
				break // its time is over
			}
		}
		die()
	}
	if deaths > 30 {
		t.Errorf("%d workers died", deaths)
	}
	if s := b.finish(t, "activity"); !strings.Contains(s.GetFailureDetails().String(), "ActivityPoisoned") {
		t.Errorf("it failed with %v", s)
	}
	b.work(t, w, nil)
	if s := b.finish(t, "good"); s.GetOutput().GetValue() != `"good"` {
		t.Errorf("what ran beside: %v", s)
	}
}
