package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// TestDotNet stands for the .NET SDK: it speaks to the server as the SDK's
// client and worker do, and knows what they cannot take.
func TestDotNet(t *testing.T) { //nolint:tparallel // the docs are checked when all scenarios are over
	t.Parallel()
	if testing.Short() {
		t.Skip("-short leaves out the SDK applications")
	}
	server := serve(t, sqlite)
	x := &dotNetBench{server: server, client: dotNet(t, server)}
	scenarios := map[string]func(*testing.T, *dotNetBench){
		"sequence": dotNetSequence, "partial_answers_and_streamed_history": dotNetLargeTurn, "abandoned_work": dotNetAbandons,
		"stale_answers": dotNetStaleAnswers, "rewind_and_restart": dotNetRewind, "typed_entities": dotNetEntities,
		"legacy_entities": dotNetLegacyEntities, "clients": dotNetClient, "pages": dotNetPages, "health_ping": dotNetPing,
	}
	names := slices.Sorted(maps.Keys(scenarios))
	t.Run("scenarios", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenarios[name](t, x)
			})
		}
	})
	server.note()
	checkDocs(t, "dotnet", server.called, names)
}

type dotNetBench struct {
	server *process
	client protos.TaskHubSidecarServiceClient
}

// worker starts a worker that gets only what it has, so that scenarios run side by side.
func (x *dotNetBench) worker(t *testing.T, w *dotNetWorker, entities ...string) *dotNetWorker {
	t.Helper()
	filters := &protos.WorkItemFilters{}
	for name := range w.programs {
		filters.Orchestrations = append(filters.Orchestrations, &protos.OrchestrationFilter{Name: name})
	}
	for name := range w.activities {
		filters.Activities = append(filters.Activities, &protos.ActivityFilter{Name: name})
	}
	for _, name := range entities {
		filters.Entities = append(filters.Entities, &protos.EntityFilter{Name: name})
	}
	w.start(t, dotNet(t, x.server), filters)
	return w
}

func (x *dotNetBench) begin(t *testing.T, name string) string {
	t.Helper()
	r, err := x.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
		InstanceId: strings.ReplaceAll(uuid.NewString(), "-", ""), Name: name, Version: wrapperspb.String("1.2"),
		Input: wrapperspb.String(`"in"`), Tags: map[string]string{"of": "test"}, RequestTime: timestamppb.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetInstanceId()
}

// end waits for an instance as the SDK does: again, when the time is over.
func (x *dotNetBench) end(t *testing.T, id string) *protos.OrchestrationState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := x.client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: id, GetInputsAndOutputs: true})
	if err != nil {
		t.Fatal(err)
	}
	s := r.GetOrchestrationState()
	if !r.GetExists() || s.GetCreatedTimestamp() == nil || s.GetLastUpdatedTimestamp() == nil || s.GetName() == "" {
		t.Fatalf("NullReferenceException: %v", r)
	}
	return s
}

func (x *dotNetBench) wantOutput(t *testing.T, id, want string) *protos.OrchestrationState {
	t.Helper()
	s := x.end(t, id)
	if s.GetOutput().GetValue() != want || s.GetOrchestrationStatus() != protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED {
		t.Errorf("%s: %v %q %v, want %q", id, s.GetOrchestrationStatus(), s.GetOutput().GetValue(), s.GetFailureDetails(), want)
	}
	return s
}

func dotNetSequence(t *testing.T, x *dotNetBench) {
	versions := make(chan string, 10)
	x.worker(t, &dotNetWorker{
		programs: map[string]program{
			"sequence": {
				event(), await(callActivity("seq-echo", "3", "one")), await(timer(time.Millisecond)), await(callChild("seq-child", uuid.NewString())),
				await(callActivity("seq-echo", "3", "two"), timer(-time.Hour)),
			},
			"seq-child": {await(callActivity("seq-echo", "4", "of the child"))},
		},
		activities: map[string]func(*protos.ActivityRequest) (string, error){"seq-echo": func(r *protos.ActivityRequest) (string, error) {
			versions <- r.GetVersion().GetValue() + r.GetTags()["of"]
			return r.GetInput().GetValue(), nil
		}},
	})
	id := x.begin(t, "sequence")
	if _, err := x.client.RaiseEvent(t.Context(), &protos.RaiseEventRequest{
		InstanceId: id, Name: "go", Input: wrapperspb.String("event"),
	}); err != nil {
		t.Fatal(err)
	}
	s := x.end(t, id)
	lines := strings.Split(s.GetOutput().GetValue(), "\n")
	slices.Sort(lines)
	if want := []string{"event", "of the child", "one", "timer", "timer", "two"}; !slices.Equal(lines, want) {
		t.Errorf("output %q of %v", lines, s)
	}
	if s.GetVersion().GetValue() != "1.2" || s.GetTags()["of"] != "test" || s.GetInput().GetValue() != `"in"` || s.GetCompletedTimestamp() == nil {
		t.Errorf("state: %v", s)
	}
	if got := []string{<-versions, <-versions, <-versions}; !slices.Equal(got, []string{"3activity", "4activity", "3activity"}) {
		t.Errorf("versions and tags of activities: %v", got)
	}
}

// dotNetLargeTurn has a turn with more actions than fit into a message, and a history that does not fit either.
func dotNetLargeTurn(t *testing.T, x *dotNetBench) {
	big := strings.Repeat("x", 1<<20)
	var many []*protos.OrchestratorAction
	for range 8 {
		many = append(many, callActivity("large-length", "", big))
	}
	w := x.worker(t, &dotNetWorker{
		programs: map[string]program{"large": {await(many...), await(timer(0)), await(callActivity("large-length", "", "abc"))}},
		activities: map[string]func(*protos.ActivityRequest) (string, error){"large-length": func(r *protos.ActivityRequest) (string, error) {
			return fmt.Sprint(len(r.GetInput().GetValue())), nil
		}},
	})
	x.wantOutput(t, x.begin(t, "large"), strings.Repeat("1048576\n", 8)+"timer\n3")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.partial < 2 || w.streamed == 0 {
		t.Errorf("%d partial answers and %d streamed histories", w.partial, w.streamed)
	}
}

func dotNetAbandons(t *testing.T, x *dotNetBench) {
	w := x.worker(t, &dotNetWorker{
		programs:   map[string]program{"abandons": {await(callActivity("ab-echo", "", "a")), await(callEntity("@ab-counter@k", "add", "2", uuid.NewString()))}},
		activities: map[string]func(*protos.ActivityRequest) (string, error){"ab-echo": func(r *protos.ActivityRequest) (string, error) { return r.GetInput().GetValue(), nil }},
		entity:     counter,
		reject:     func(*protos.WorkItem) bool { return true },
	}, "ab-counter")
	x.wantOutput(t, x.begin(t, "abandons"), "a\n2")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rejected) != 3 {
		t.Errorf("given back: %v", w.rejected)
	}
}

// dotNetStaleAnswers answers for what is not there. Anything but OK makes the SDK try again or give up its item.
func dotNetStaleAnswers(t *testing.T, x *dotNetBench) {
	id := x.begin(t, "nobody-has-this")
	for _, token := range []string{"", "nonsense", uuid.NewString()} {
		_, turn := x.client.CompleteOrchestratorTask(t.Context(), &protos.OrchestratorResponse{
			InstanceId: id, CompletionToken: token, Actions: []*protos.OrchestratorAction{finish(protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED, "forged")},
		})
		_, activity := x.client.CompleteActivityTask(t.Context(), &protos.ActivityResponse{InstanceId: id, CompletionToken: token})
		_, entity := x.client.CompleteEntityTask(t.Context(), &protos.EntityBatchResult{CompletionToken: token})
		_, abandonTurn := x.client.AbandonTaskOrchestratorWorkItem(t.Context(), &protos.AbandonOrchestrationTaskRequest{CompletionToken: token})
		_, abandonActivity := x.client.AbandonTaskActivityWorkItem(t.Context(), &protos.AbandonActivityTaskRequest{CompletionToken: token})
		_, abandonEntity := x.client.AbandonTaskEntityWorkItem(t.Context(), &protos.AbandonEntityTaskRequest{CompletionToken: token})
		if err := errors.Join(turn, activity, entity, abandonTurn, abandonActivity, abandonEntity); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
	}
	r, err := x.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: id})
	if err != nil || r.GetOrchestrationState().GetOrchestrationStatus() != protos.OrchestrationStatus_ORCHESTRATION_STATUS_PENDING {
		t.Errorf("after the answers: %v, %v", r, err)
	}
}

func dotNetRewind(t *testing.T, x *dotNetBench) {
	var mended atomic.Bool
	var before atomic.Int32
	x.worker(t, &dotNetWorker{
		programs: map[string]program{"rewound": {await(callActivity("re-fine", "", "")), await(callActivity("re-mendable", "", ""))}},
		activities: map[string]func(*protos.ActivityRequest) (string, error){
			"re-fine": func(*protos.ActivityRequest) (string, error) { return fmt.Sprint(before.Add(1)), nil },
			"re-mendable": func(*protos.ActivityRequest) (string, error) {
				if !mended.Load() {
					return "", errors.New("broken")
				}
				return "mended", nil
			},
		},
	})
	id := x.begin(t, "rewound")
	if s := x.end(t, id); s.GetFailureDetails().GetErrorMessage() != "broken" {
		t.Fatalf("before: %v", s)
	}
	mended.Store(true)
	rewind := func(id string) error {
		_, err := x.client.RewindInstance(t.Context(), &protos.RewindInstanceRequest{InstanceId: id, Reason: wrapperspb.String("mended")})
		return err
	}
	if err := rewind(id); err != nil {
		t.Fatal(err)
	}
	x.wantOutput(t, id, "1\nmended")
	wantCode(t, "rewind of a completed one", rewind(id), codes.FailedPrecondition)
	wantCode(t, "rewind of an unknown one", rewind("unknown"), codes.NotFound)

	restart := func(id string, anew bool) (string, error) {
		r, err := x.client.RestartInstance(t.Context(), &protos.RestartInstanceRequest{InstanceId: id, RestartWithNewInstanceId: anew})
		return r.GetInstanceId(), err
	}
	other, err := restart(id, true)
	if err != nil || other == id {
		t.Fatalf("restart under a new id: %q, %v", other, err)
	}
	if s := x.wantOutput(t, other, "2\nmended"); s.GetVersion().GetValue() != "1.2" || s.GetTags()["of"] != "test" || s.GetInput().GetValue() != `"in"` {
		t.Errorf("restarted: %v", s)
	}
	if _, err := restart(id, false); err != nil {
		t.Error(err)
	}
	x.wantOutput(t, id, "3\nmended")
	_, err = restart("unknown", false)
	wantCode(t, "restart of an unknown one", err, codes.NotFound)
	_, err = restart(x.begin(t, "nobody-has-this"), false)
	wantCode(t, "restart of one that is not over", err, codes.FailedPrecondition)
}

func dotNetEntities(t *testing.T, x *dotNetBench) {
	section := uuid.NewString()
	x.worker(t, &dotNetWorker{
		programs: map[string]program{"typed": {
			await(callEntity("@typed@a", "add", "3", uuid.NewString())), tell(signalEntity("@typed@a", "add", "4", uuid.NewString())),
			await(lockEntities(section, "@typed@b", "@typed@a")),
			await(callEntity("@typed@a", "get", "", uuid.NewString())), await(callEntity("@typed@b", "fail", "", uuid.NewString())),
			tell(signalEntity("@typed@c", "relay", "@typed@b", uuid.NewString())),
			tell(unlockEntity(section, "@typed@a"), unlockEntity(section, "@typed@b")),
		}},
		entity: counter,
	}, "typed")
	x.wantOutput(t, x.begin(t, "typed"), "3\nlocked\n7\nthe entity fails")
	if _, err := x.client.SignalEntity(t.Context(), &protos.SignalEntityRequest{
		InstanceId: "@typed@b", Name: "add", Input: wrapperspb.String("1"), RequestId: uuid.NewString(), RequestTime: timestamppb.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	x.becomes(t, "@typed@b", "6") // the relayed 5, in a request whose id the server made up, and 1
	if _, err := x.client.SignalEntity(t.Context(), &protos.SignalEntityRequest{InstanceId: "@typed@a", Name: "delete", RequestId: uuid.NewString()}); err != nil {
		t.Fatal(err)
	}
	until(t, "the entity is deleted", func() bool {
		r, err := x.client.GetEntity(t.Context(), &protos.GetEntityRequest{InstanceId: "@typed@a"})
		return err == nil && !r.GetExists()
	})
	q, err := x.client.QueryEntities(t.Context(), &protos.QueryEntitiesRequest{Query: &protos.EntityQuery{
		InstanceIdStartsWith: wrapperspb.String("@typed@"), IncludeState: true, PageSize: wrapperspb.Int32(100),
	}})
	if err != nil || len(q.GetEntities()) != 1 || q.GetContinuationToken() != nil {
		t.Errorf("query: %v, %v", q, err)
	}
	c, err := x.client.CleanEntityStorage(t.Context(), &protos.CleanEntityStorageRequest{RemoveEmptyEntities: true, ReleaseOrphanedLocks: true})
	if err != nil || c.GetContinuationToken() != nil || c.GetOrphanedLocksReleased() != 0 {
		t.Errorf("clean: %v, %v", c, err)
	}
}

// becomes waits until an entity has a state and no owner of a lock.
func (x *dotNetBench) becomes(t *testing.T, entity, state string) {
	t.Helper()
	until(t, entity+" becomes "+state, func() bool {
		r, err := x.client.GetEntity(t.Context(), &protos.GetEntityRequest{InstanceId: entity, IncludeState: true})
		e := r.GetEntity()
		return err == nil && e.GetSerializedState().GetValue() == state && e.GetLockedBy() == nil && e.GetLastModifiedTime() != nil
	})
}

// dotNetLegacyEntities talks to entities as a .NET worker does that was set up by UseGrpc().
func dotNetLegacyEntities(t *testing.T, x *dotNetBench) {
	section := uuid.NewString()
	op := func(operation, input, id string, signal bool) string {
		return fmt.Sprintf(`{"op":%q,"signal":%t,"input":%q,"id":%q,"parent":"p"}`, operation, signal, input, id)
	}
	x.worker(t, &dotNetWorker{
		programs: map[string]program{"legacy": {
			tell(legacyMessage("@legacy@a", "op", op("add", "5", uuid.NewString(), true))),
			await(legacyMessage("@legacy@a", "op", op("add", "1", uuid.NewString(), false))),
			await(legacyMessage("@legacy@a", "op", fmt.Sprintf(
				`{"op":null,"id":%q,"lockset":[{"name":"legacy","key":"a"},{"name":"legacy","key":"b"}],"pos":0,"parent":"p"}`, section))),
			await(legacyMessage("@legacy@b", "op", op("add", "7", uuid.NewString(), false))),
			tell(legacyMessage("@legacy@a", "release", fmt.Sprintf(`{"parent":"p","id":%q}`, section)),
				legacyMessage("@legacy@b", "release", fmt.Sprintf(`{"parent":"p","id":%q}`, section))),
		}},
		entity: counter,
	}, "legacy")
	x.wantOutput(t, x.begin(t, "legacy"), `{"result":"6"}`+"\n"+`{"result":"Lock Acquisition Completed"}`+"\n"+`{"result":"7"}`)
	if _, err := x.client.RaiseEvent(t.Context(), &protos.RaiseEventRequest{
		InstanceId: "@legacy@a", Name: "op", Input: wrapperspb.String(op("add", "2", uuid.NewString(), true)),
	}); err != nil {
		t.Fatal(err)
	}
	x.becomes(t, "@legacy@a", "8")
	x.becomes(t, "@legacy@b", "7")
}

func dotNetClient(t *testing.T, x *dotNetBench) {
	x.worker(t, &dotNetWorker{programs: map[string]program{"cl-waits": {event()}}})
	late := strings.ReplaceAll(uuid.NewString(), "-", "")
	started := make(chan *protos.GetInstanceResponse, 1)
	go func() { // the SDK dereferences the state: no answer that there is none
		r, err := x.client.WaitForInstanceStart(t.Context(), &protos.GetInstanceRequest{InstanceId: late})
		if err != nil {
			t.Error(err)
		}
		started <- r
	}()
	create := func(id string, policy *protos.OrchestrationIdReusePolicy) error {
		_, err := x.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{InstanceId: id, Name: "cl-waits", OrchestrationIdReusePolicy: policy})
		return err
	}
	if err := create(late, nil); err != nil {
		t.Fatal(err)
	}
	if r := <-started; !r.GetExists() || r.GetOrchestrationState() == nil {
		t.Errorf("started: %v", r)
	}
	wantCode(t, "a second start", create(late, nil), codes.AlreadyExists)
	running := []protos.OrchestrationStatus{protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING}
	wantCode(t, "a policy that cannot be", create(late, &protos.OrchestrationIdReusePolicy{ReplaceableStatus: running}), codes.InvalidArgument)
	wantCode(t, "an id that is too long", create(strings.Repeat("x", 5000), nil), codes.InvalidArgument)

	if _, err := x.client.SuspendInstance(t.Context(), &protos.SuspendRequest{InstanceId: late, Reason: wrapperspb.String("a rest")}); err != nil {
		t.Fatal(err)
	}
	x.hasStatus(t, late, protos.OrchestrationStatus_ORCHESTRATION_STATUS_SUSPENDED)
	if _, err := x.client.ResumeInstance(t.Context(), &protos.ResumeRequest{InstanceId: late, Reason: wrapperspb.String("rested")}); err != nil {
		t.Fatal(err)
	}
	x.hasStatus(t, late, protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING)
	if _, err := x.client.TerminateInstance(t.Context(), &protos.TerminateRequest{InstanceId: late, Output: wrapperspb.String(`"why"`), Recursive: true}); err != nil {
		t.Fatal(err)
	}
	if s := x.end(t, late); s.GetOutput().GetValue() != `"why"` || s.GetOrchestrationStatus() != protos.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED {
		t.Errorf("terminated: %v", s)
	}
	purge := &protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_InstanceId{InstanceId: late}, IsOrchestration: true}
	for _, want := range []int32{1, 0} {
		r, err := x.client.PurgeInstances(t.Context(), purge)
		if err != nil || r.GetDeletedInstanceCount() != want || !r.GetIsComplete().GetValue() {
			t.Errorf("purge: %v, %v", r, err)
		}
	}
	r, err := x.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: late})
	if err != nil || r.GetExists() {
		t.Errorf("after the purge: %v, %v", r, err)
	}
	forced := x.begin(t, "nobody-has-this")
	f, err := x.client.SkipGracefulOrchestrationTerminations(t.Context(), &protos.SkipGracefulOrchestrationTerminationsRequest{
		InstanceBatch: &protos.InstanceBatch{InstanceIds: []string{forced}}, Reason: wrapperspb.String("no worker"),
	})
	if err != nil || len(f.GetUnterminatedInstanceIds()) != 0 {
		t.Errorf("forced end: %v, %v", f, err)
	}
	x.hasStatus(t, forced, protos.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED)
}

func (x *dotNetBench) hasStatus(t *testing.T, id string, want protos.OrchestrationStatus) {
	t.Helper()
	until(t, fmt.Sprintf("%s becomes %v", id, want), func() bool {
		r, err := x.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: id})
		return err == nil && r.GetOrchestrationState().GetOrchestrationStatus() == want
	})
}

// dotNetPages reads pages until there is no token: the SDK takes an empty one for another page, for ever.
func dotNetPages(t *testing.T, x *dotNetBench) {
	x.worker(t, &dotNetWorker{programs: map[string]program{"pages": {await(timer(0))}}})
	began := timestamppb.Now()
	prefix := uuid.NewString()
	var want, queried, listed []string
	for i := range 25 {
		id := fmt.Sprintf("%s-%02d", prefix, i)
		want = append(want, id)
		if _, err := x.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{InstanceId: id, Name: "pages"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range want {
		x.wantOutput(t, id, "timer")
	}
	query := &protos.InstanceQuery{InstanceIdPrefix: wrapperspb.String(prefix), MaxInstanceCount: 7, FetchInputsAndOutputs: true}
	for pages := 0; ; pages++ {
		r, err := x.client.QueryInstances(t.Context(), &protos.QueryInstancesRequest{Query: query})
		if err != nil || pages > 10 {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, s := range r.GetOrchestrationState() {
			queried = append(queried, s.GetInstanceId())
		}
		if query.ContinuationToken = r.GetContinuationToken(); query.ContinuationToken == nil {
			break
		}
	}
	list := &protos.ListInstanceIdsRequest{
		RuntimeStatus:     []protos.OrchestrationStatus{protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED},
		CompletedTimeFrom: began, PageSize: 7, LastInstanceKey: wrapperspb.String(""),
	}
	for pages := 0; ; pages++ {
		r, err := x.client.ListInstanceIds(t.Context(), list)
		if err != nil || pages > 100 {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, id := range r.GetInstanceIds() {
			if strings.HasPrefix(id, prefix) {
				listed = append(listed, id)
			}
		}
		if list.LastInstanceKey = r.GetLastInstanceKey(); list.LastInstanceKey == nil {
			break
		}
	}
	slices.Sort(queried)
	slices.Sort(listed)
	if !slices.Equal(queried, want) || !slices.Equal(listed, want) {
		t.Errorf("queried %v\nlisted  %v", queried, listed)
	}
	r, err := x.client.PurgeInstances(t.Context(), &protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_PurgeInstanceFilter{
		PurgeInstanceFilter: &protos.PurgeInstanceFilter{
			CreatedTimeFrom: timestamppb.New(time.Unix(0, 0)), CreatedTimeTo: timestamppb.New(time.Unix(1, 0)), Timeout: durationpb.New(time.Minute),
		},
	}})
	if err != nil || r.GetIsComplete() == nil || r.GetDeletedInstanceCount() != 0 {
		t.Errorf("purge of what was created long ago: %v, %v", r, err)
	}
}

// dotNetPing waits as a worker without work: after 120 s of silence the SDK takes its connection for dead.
func dotNetPing(t *testing.T, x *dotNetBench) {
	w := x.worker(t, &dotNetWorker{programs: map[string]program{"never": {event()}}})
	until(t, "a ping", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.pings > 0
	})
}

// until polls a condition that another process decides.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}
