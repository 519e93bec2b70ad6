package backendtest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// randomCallsBesideTheModel makes the same random calls to the backend and to
// the model, and wants the same answers, work items and metadata.
func randomCallsBesideTheModel(t *testing.T, hubs NewHub) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			modelHub := ModelHub(t)
			modelHub.log = &recorder{}
			p := &pair{
				t: t, r: rand.New(rand.NewPCG(seed, 11)),
				real: newDesk(t, hubs), model: openDesk(t, modelHub, Settings{}),
			}
			defer func() {
				if t.Failed() {
					t.Log(strings.Join(p.log, "\n"))
				}
			}()
			for range 120 {
				p.step()
			}
			p.compare()
		})
	}
}

type pair struct {
	t           *testing.T
	r           *rand.Rand
	real, model *desk
	log         []string
}

var randomIDs = []api.InstanceID{"a", "b", "c", "kid", "日本", "%"}

func (p *pair) id() api.InstanceID { return randomIDs[p.r.IntN(len(randomIDs))] }

// same makes one call to both and wants the same kind of answer.
func (p *pair) same(what string, f func(d *desk) error) {
	p.t.Helper()
	p.log = append(p.log, what)
	got, want := kindOfError(f(p.real)), kindOfError(f(p.model))
	if got != want {
		p.t.Fatalf("%s: %s, the model says %s", what, got, want)
	}
}

func kindOfError(err error) string {
	for _, known := range []error{
		backend.ErrDuplicateEvent, api.ErrInstanceNotFound, api.ErrNotCompleted, backend.ErrWorkItemLockLost, api.ErrNotFailed,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return "another error: " + err.Error()
	}
	return "no error"
}

func (p *pair) step() {
	p.t.Helper()
	switch id := p.id(); p.r.IntN(12) {
	case 0, 1:
		e := startEvent(id, "o")
		p.same("start "+string(id), func(d *desk) error { return d.be.CreateOrchestrationInstance(d.ctx(), clone(e)) })
	case 2, 3, 4:
		e := raised("e", fmt.Sprint(p.r.IntN(1000)))
		p.same("raise "+string(id), func(d *desk) error { return d.be.AddNewOrchestrationEvent(d.ctx(), id, clone(e)) })
	case 5, 6, 7:
		p.turns()
	case 8, 9:
		p.tasks()
	case 10:
		p.same("purge "+string(id), func(d *desk) error { return d.be.PurgeOrchestrationState(d.ctx(), id) })
	case 11:
		p.compare()
		if p.r.IntN(3) == 0 {
			p.log = append(p.log, "reopen")
			p.real.reopen()
			p.model.reopen()
		}
	}
}

func clone(e *backend.HistoryEvent) *backend.HistoryEvent {
	return proto.Clone(e).(*backend.HistoryEvent)
}

// turns takes all turns of both, wants the same, and ends each of them alike.
func (p *pair) turns() {
	p.t.Helper()
	must(p.t, p.model.takeTurn())
	eventually(p.t, patience, "the turns that the model has", func() bool {
		must(p.t, p.real.takeTurn())
		return len(p.real.turns) >= len(p.model.turns)
	})
	ids := slices.Sorted(maps.Keys(p.model.turns))
	if got := slices.Sorted(maps.Keys(p.real.turns)); !slices.Equal(got, ids) {
		p.t.Fatalf("turns of %v, the model has %v", got, ids)
	}
	for _, id := range ids {
		got, want := p.real.turn(id), p.model.turn(id)
		if diff := gocmp.Diff(describeTurn(want), describeTurn(got)); diff != "" {
			p.t.Fatalf("the turn of %s (-model +backend):\n%s", id, diff)
		}
		if want.RetryCount == 0 && p.r.IntN(6) == 0 {
			p.log = append(p.log, "abandon "+string(id))
			must(p.t, p.real.be.AbandonOrchestrationWorkItem(p.real.ctx(), got))
			must(p.t, p.model.be.AbandonOrchestrationWorkItem(p.model.ctx(), want))
			continue
		}
		actions := p.decide(want)
		p.log = append(p.log, fmt.Sprintf("complete %s: %v", id, actions))
		p.real.complete(got, actions...)
		p.model.complete(want, actions...)
	}
}

// decide makes up what a turn does. The ids of its actions go on after those of its history.
func (p *pair) decide(wi *backend.OrchestrationWorkItem) []*protos.OrchestratorAction {
	next := int32(0)
	for _, e := range wi.State.OldEvents() {
		next = max(next, e.GetEventId()+1)
	}
	var actions []*protos.OrchestratorAction
	for range p.r.IntN(4) {
		switch p.r.IntN(5) {
		case 0, 1:
			actions = append(actions, callTask(next, "act"))
		case 2:
			actions = append(actions, sendEvent(next, p.id(), fmt.Sprint("from ", wi.InstanceID)))
		case 3:
			actions = append(actions, setTimer(next, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
		case 4:
			if wi.InstanceID != "kid" {
				actions = append(actions, callChild(next, "kid"))
			}
		}
		next++
	}
	switch p.r.IntN(6) {
	case 0:
		actions = append(actions, end(next, api.RUNTIME_STATUS_COMPLETED, fmt.Sprint(next)))
	case 1:
		actions = append(actions, end(next, api.RUNTIME_STATUS_FAILED, "why"))
	case 2:
		actions = append(actions, end(next, api.RUNTIME_STATUS_CONTINUED_AS_NEW, fmt.Sprint(next)))
	}
	return actions
}

func describeTurn(wi *backend.OrchestrationWorkItem) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s retry %d %v\n", wi.InstanceID, wi.RetryCount, wi.State)
	for _, e := range wi.State.OldEvents() {
		fmt.Fprintf(&b, "  had %s\n", describe(e))
	}
	for _, e := range wi.NewEvents {
		fmt.Fprintf(&b, "  new %s\n", describe(e))
	}
	return b.String()
}

// describe says what two equal backends must agree on: not the times, nor the ids made at random.
func describe(e *backend.HistoryEvent) string {
	s := kindOf(e) + fmt.Sprint(" ", e.GetEventId())
	switch {
	case e.GetExecutionStarted() != nil:
		x := e.GetExecutionStarted()
		s += fmt.Sprint(" ", x.GetName(), x.GetInput(), x.GetParentInstance().GetOrchestrationInstance().GetInstanceId())
	case e.GetEventRaised() != nil:
		s += e.GetEventRaised().String()
	case e.GetTaskCompleted() != nil:
		s += e.GetTaskCompleted().String()
	case e.GetTaskFailed() != nil:
		s += fmt.Sprint(" ", e.GetTaskFailed().GetTaskScheduledId(), e.GetTaskFailed().GetFailureDetails().GetErrorMessage())
	case e.GetSubOrchestrationInstanceFailed() != nil:
		s += fmt.Sprint(" ", e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId())
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		s += e.GetSubOrchestrationInstanceCompleted().String()
	}
	return strings.Join(strings.Fields(s), " ") // protobuf's own text varies in its blanks
}

// tasks takes all activities of both, wants the same, and ends each of them alike.
func (p *pair) tasks() {
	p.t.Helper()
	take := func(d *desk) (items []*backend.ActivityWorkItem) {
		for {
			wi, err := d.be.GetActivityWorkItem(d.ctx())
			if errors.Is(err, backend.ErrNoWorkItems) {
				slices.SortFunc(items, func(a, b *backend.ActivityWorkItem) int {
					return cmp.Or(cmp.Compare(a.InstanceID, b.InstanceID), cmp.Compare(a.NewEvent.GetEventId(), b.NewEvent.GetEventId()))
				})
				return items
			}
			must(p.t, err)
			items = append(items, wi)
		}
	}
	want := take(p.model)
	got := take(p.real)
	names := func(items []*backend.ActivityWorkItem) (names []string) {
		for _, wi := range items {
			names = append(names, wi.Description())
		}
		return names
	}
	if diff := gocmp.Diff(names(want), names(got)); diff != "" {
		p.t.Fatalf("activities (-model +backend):\n%s", diff)
	}
	for n := range want {
		switch p.r.IntN(4) {
		case 0:
			p.log = append(p.log, "abandon "+want[n].Description())
			must(p.t, p.real.be.AbandonActivityWorkItem(p.real.ctx(), got[n]))
			must(p.t, p.model.be.AbandonActivityWorkItem(p.model.ctx(), want[n]))
		case 1:
			p.log = append(p.log, "fail "+want[n].Description())
			for wi, d := range map[*backend.ActivityWorkItem]*desk{got[n]: p.real, want[n]: p.model} {
				wi.Result = taskFailed(wi.NewEvent.GetEventId(), "why")
				must(p.t, d.be.CompleteActivityWorkItem(d.ctx(), wi))
			}
		default:
			p.log = append(p.log, "complete "+want[n].Description())
			must(p.t, p.real.result(got[n], fmt.Sprint(n)))
			must(p.t, p.model.result(want[n], fmt.Sprint(n)))
		}
	}
}

// compare reads the metadata of all instances.
func (p *pair) compare() {
	p.t.Helper()
	for _, id := range randomIDs {
		read := func(d *desk) string {
			m, err := d.be.GetOrchestrationMetadata(d.ctx(), id)
			if err != nil {
				return kindOfError(err)
			}
			return fmt.Sprint(m.Name, api.StatusName(m.RuntimeStatus), m.SerializedInput, m.SerializedOutput,
				m.FailureDetails.GetErrorMessage(), m.ParentInstanceID, m.CompletedAt.IsZero())
		}
		if got, want := read(p.real), read(p.model); got != want {
			p.t.Fatalf("%s is %s, the model has %s", id, got, want)
		}
	}
}
