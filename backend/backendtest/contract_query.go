package backendtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// queried starts instances of several kinds, a second apart, and returns their ids in that order.
func queried(d *desk) []api.InstanceID {
	d.t.Helper()
	began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	ids := []api.InstanceID{"a", "a%", "a_", "aé", "A", "ab", "b", "a%b", "x"}
	for n, id := range ids {
		e := startEvent(id, []string{"o", "p"}[n%2])
		e.Timestamp = timestamppb.New(began.Add(time.Duration(n) * time.Second))
		must(d.t, d.be.CreateOrchestrationInstance(d.ctx(), e))
		switch n % 3 {
		case 1:
			d.complete(d.turn(id))
		case 2:
			if id != "x" {
				d.complete(d.turn(id), end(0, api.RUNTIME_STATUS_FAILED, "why"))
			}
		}
	}
	d.complete(d.turn("x"), callChild(0, "kid1"), callChild(1, "kid2"))
	return append(ids, "kid1", "kid2")
}

func queryFilters(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	q := optional[backend.InstanceQuerier](d)
	all := queried(d)
	at := func(n int) time.Time { return d.metadata(all[n]).CreatedAt }
	for name, tt := range map[string]struct {
		q    api.InstanceQuery
		want string
	}{
		"all":               {api.InstanceQuery{}, "a a% a_ aé A ab b a%b x kid1 kid2"},
		"prefix":            {api.InstanceQuery{IDPrefix: "a"}, "a a% a_ aé ab a%b"},
		"a percent sign":    {api.InstanceQuery{IDPrefix: "a%"}, "a% a%b"},
		"an underscore":     {api.InstanceQuery{IDPrefix: "a_"}, "a_"},
		"not ASCII":         {api.InstanceQuery{IDPrefix: "aé"}, "aé"},
		"no such prefix":    {api.InstanceQuery{IDPrefix: "aa"}, ""},
		"name":              {api.InstanceQuery{Name: "p"}, "a% aé ab a%b"},
		"status":            {api.InstanceQuery{Statuses: []protos.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}, "a_ ab"},
		"two statuses":      {api.InstanceQuery{Name: "o", Statuses: []protos.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_PENDING}}, "a A b x"},
		"parent":            {api.InstanceQuery{ParentID: "x"}, "kid1 kid2"},
		"created from":      {api.InstanceQuery{CreatedFrom: at(7)}, "a%b x kid1 kid2"},
		"created to":        {api.InstanceQuery{CreatedTo: at(1)}, "a a%"},
		"created between":   {api.InstanceQuery{CreatedFrom: at(2), CreatedTo: at(4)}, "a_ aé A"},
		"just after":        {api.InstanceQuery{CreatedFrom: at(7).Add(time.Microsecond), CreatedTo: at(8)}, "x"},
		"all at once":       {api.InstanceQuery{IDPrefix: "a", Name: "o", CreatedFrom: at(1), Statuses: []protos.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}, "a_"},
		"an unknown parent": {api.InstanceQuery{ParentID: "ghost"}, ""},
	} {
		p, err := q.QueryInstances(t.Context(), tt.q)
		must(t, err)
		var got []string
		for _, m := range p.Instances {
			got = append(got, string(m.InstanceID))
			if (m.SerializedInput != "") != tt.q.Payloads {
				t.Errorf("%s: input %q without Payloads", name, m.SerializedInput)
			}
		}
		if strings.Join(got, " ") != tt.want || p.Token != "" {
			t.Errorf("%s: %q, token %q; want %q", name, strings.Join(got, " "), p.Token, tt.want)
		}
	}
	p, err := q.QueryInstances(t.Context(), api.InstanceQuery{Payloads: true})
	must(t, err)
	for _, m := range p.Instances {
		if want := d.metadata(m.InstanceID); summary(m) != summary(want) {
			t.Errorf("queried as %s, read as %s", summary(m), summary(want))
		}
	}
}

func queryPages(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	q := optional[backend.InstanceQuerier](d)
	for n := range 23 {
		d.start(api.InstanceID(fmt.Sprintf("i%02d", n)))
	}
	for _, size := range []int{1, 5, 22, 23, 24, 1000, 5000} {
		var got []api.InstanceID
		for token, pages := "", 0; ; pages++ {
			p, err := q.QueryInstances(t.Context(), api.InstanceQuery{PageSize: size, Token: token})
			must(t, err)
			if len(p.Instances) > size || len(p.Instances) == 0 {
				t.Errorf("pages of %d: page %d has %d", size, pages, len(p.Instances))
			}
			for _, m := range p.Instances {
				got = append(got, m.InstanceID)
			}
			if token = p.Token; token == "" {
				break
			}
			if pages == 2 && size == 5 { // a start and a purge between pages neither skip nor repeat
				d.start("zz")
				d.complete(d.turn("i00"), end(0, api.RUNTIME_STATUS_COMPLETED, ""))
				must(t, d.be.PurgeOrchestrationState(t.Context(), "i00"))
				d.start("i00")
			}
		}
		seen := map[api.InstanceID]int{}
		for _, id := range got {
			seen[id]++
		}
		for n := range 23 {
			id := api.InstanceID(fmt.Sprintf("i%02d", n))
			if want := 1; seen[id] != want && (id != "i00" || size != 5) {
				t.Errorf("pages of %d: %s comes %d times", size, id, seen[id])
			}
		}
	}
	for name, bad := range map[string]api.InstanceQuery{
		"a negative page": {PageSize: -1}, "a foreign token": {Token: "no token of ours!"},
	} {
		_, err := q.QueryInstances(t.Context(), bad)
		d.wantErr(name, err, api.ErrInvalidInput)
	}
}

func finishedAreListed(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	l := optional[backend.FinishedLister](d)
	type ended struct {
		id api.InstanceID
		at time.Time
	}
	var want []ended
	for n := range 12 {
		id := api.InstanceID(fmt.Sprintf("i%02d", 11-n))
		d.start(id)
		switch n % 3 {
		case 0:
			d.complete(d.turn(id))
			continue
		case 1:
			d.complete(d.turn(id), end(0, api.RUNTIME_STATUS_COMPLETED, ""))
		case 2:
			d.complete(d.turn(id), end(0, api.RUNTIME_STATUS_TERMINATED, ""))
		}
		want = append(want, ended{id, d.metadata(id).CompletedAt})
	}
	slices.SortFunc(want, func(a, b ended) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	list := func(q api.FinishedQuery) []api.InstanceID {
		t.Helper()
		var got []api.InstanceID
		for {
			p, err := l.ListFinished(t.Context(), q)
			must(t, err)
			got = append(got, p.IDs...)
			if q.Token = p.Token; q.Token == "" {
				return got
			}
			if len(p.IDs) != q.PageSize {
				t.Errorf("a page of %d has %d ids", q.PageSize, len(p.IDs))
			}
		}
	}
	ids := func(list []ended) (ids []api.InstanceID) {
		for _, e := range list {
			ids = append(ids, e.id)
		}
		return ids
	}
	for _, size := range []int{0, 1, 3, 8} {
		if got := list(api.FinishedQuery{PageSize: size}); !slices.Equal(got, ids(want)) {
			t.Errorf("pages of %d: %v, want %v", size, got, ids(want))
		}
	}
	for _, id := range list(api.FinishedQuery{Statuses: []protos.OrchestrationStatus{api.RUNTIME_STATUS_TERMINATED}}) {
		d.wantStatus(id, api.RUNTIME_STATUS_TERMINATED)
	}
	from, to := want[2].at, want[5].at
	var between []ended
	for _, e := range want {
		if !e.at.Before(from) && !e.at.After(to) {
			between = append(between, e)
		}
	}
	if got := list(api.FinishedQuery{CompletedFrom: from, CompletedTo: to, PageSize: 2}); !slices.Equal(got, ids(between)) {
		t.Errorf("between two times: %v, want %v", got, ids(between))
	}
	_, err := l.ListFinished(t.Context(), api.FinishedQuery{Token: "no token of ours!"})
	d.wantErr("a foreign token", err, api.ErrInvalidInput)
}

func historyIsRead(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	h := optional[backend.HistoryReader](d)
	d.wantErr("an unknown id", h.ReadHistory(t.Context(), "ghost", nil), api.ErrInstanceNotFound)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "act"))
	must(t, d.result(d.task(), "1"))
	d.complete(d.turn("a"), end(1, api.RUNTIME_STATUS_COMPLETED, "1"))
	want := []string{
		"OrchestratorStartedEvent", "ExecutionStartedEvent", "TaskScheduledEvent",
		"OrchestratorStartedEvent", "TaskCompletedEvent", "ExecutionCompletedEvent",
	}
	for range 2 {
		h = optional[backend.HistoryReader](d)
		var got []string
		portions := 0
		must(t, h.ReadHistory(t.Context(), "a", func(events []*backend.HistoryEvent) error {
			portions++
			got = append(got, kinds(events)...)
			return nil
		}))
		if !slices.Equal(got, want) || portions < 2 {
			t.Errorf("the history is %v, in %d portions", got, portions)
		}
		boom := errors.New("enough")
		calls := 0
		err := h.ReadHistory(t.Context(), "a", func([]*backend.HistoryEvent) error { calls++; return boom })
		d.wantErr("an error of the reader", err, boom)
		if calls != 1 {
			t.Errorf("called %d times after its error", calls)
		}
		d.reopen()
	}
}
