package server

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

// TestSkipWaits runs a month of timers, with a worker that knows the time from the
// server alone, beside work that nobody takes.
func TestSkipWaits(t *testing.T) {
	clock := &backend.VirtualClock{}
	opts := sqlite.NewSqliteOptions("")
	opts.Clock = clock
	b := startOn(t, sqlite.NewSqliteBackend(opts, silent), Options{SkipWaits: clock})
	const day = 24 * time.Hour
	w := fullWorker()
	w.scripts["month"] = func(events []*protos.HistoryEvent) []*protos.OrchestratorAction {
		var now time.Time
		id := int32(1)
		for _, e := range events {
			if e.GetOrchestratorStarted() != nil {
				now = e.GetTimestamp().AsTime()
			}
			if e.GetTimerFired() != nil {
				id++
			}
		}
		if id > 30 {
			return []*protos.OrchestratorAction{complete(`"over"`)}
		}
		a := sleep(0)
		a.Id, a.GetCreateTimer().FireAt = id, timestamppb.New(now.Add(day))
		return []*protos.OrchestratorAction{a}
	}
	busy := make(chan struct{})
	w.activities["a"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		<-busy // time does not pass while it runs
		return `1`, nil
	}
	w.scripts["busy"] = steps(`1`, call("a"))
	began := time.Now()
	b.startAs(t, "busy", "busy")
	b.startAs(t, "month", "i")
	b.work(t, w, &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{
		Orchestrations: []*protos.OrchestrationFilter{{Name: "month"}, {Name: "busy"}}, Activities: []*protos.ActivityFilter{{Name: "a"}},
	}})
	b.startAs(t, "nobody hosts it", "q")
	eventually(t, "it sleeps", func() bool { return b.state(t, "i").GetOrchestrationStatus() == api.RUNTIME_STATUS_RUNNING })
	if ahead := time.Until(clock.Now()); ahead > time.Minute {
		t.Errorf("while an activity runs the clock is %v ahead", ahead)
	}
	close(busy)
	s := b.finish(t, "i")
	if s.GetOutput().GetValue() != `"over"` {
		t.Errorf("it ended with %v", s)
	}
	if took := s.GetCompletedTimestamp().AsTime().Sub(s.GetCreatedTimestamp().AsTime()); took < 30*day || took > 31*day {
		t.Errorf("a month took %v", took)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("of real time it took %v", took)
	}
}
