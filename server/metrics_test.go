package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

func (b *bench) metrics(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTPAddr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMetrics(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	w.activities["flaky"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		return "", &protos.TaskFailureDetails{ErrorType: "Boom"}
	}
	w.scripts["flow"] = steps(`1`, call("a"), sleep(time.Millisecond), call("flaky"))
	b.work(t, w, &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{
		Orchestrations: []*protos.OrchestrationFilter{{Name: "flow"}}, Activities: []*protos.ActivityFilter{{Name: "a"}, {Name: "flaky"}},
	}})
	b.startAs(t, "flow", "i")
	b.finish(t, "i")
	b.startAs(t, "nobody hosts it", "q")
	text := b.metrics(t)
	for _, want := range []string{
		`perdure_work_item_wait_seconds_count{hub="default",kind="activity"} 2`,
		`perdure_work_item_run_seconds_count{hub="default",kind="activity",name="a",outcome="done"} 1`,
		`perdure_work_item_run_seconds_count{hub="default",kind="activity",name="flaky",outcome="failed"} 1`,
		`perdure_work_item_run_seconds_count{hub="default",kind="orchestration",name="flow",outcome="done"} 4`,
		`perdure_orchestration_seconds_count{hub="default",name="flow",status="failed"} 1`,
		`perdure_timer_lateness_seconds_count{hub="default"} 1`,
		`perdure_commit_failures_total{hub="default"} 0`,
		`perdure_queued_work_items{hub="default",kind="orchestration"} 1`,
		`perdure_lease_held{hub="default"} 1`,
		`perdure_workers{draining="false",hub="default"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="StartInstance",grpc_service="TaskHubSidecarService",grpc_type="unary"} 2`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	for _, name := range []string{"perdure_commit_seconds_count", "perdure_commit_operations_sum", "perdure_resident_instances", "go_goroutines"} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	if problems, err := testutil.GatherAndLint(b.stats.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestNamesAreBounded does not let clients fill the memory with names.
func TestNamesAreBounded(t *testing.T) {
	_, m := newHubs(Options{}.withDefaults(), nil)
	h := m.of("x")
	for n := range 2 * maxNames {
		h.Ran(backend.ActivityWork, fmt.Sprint("a", n), backend.WorkDone, time.Second)
	}
	if n := testutil.CollectAndCount(m.run); n != maxNames+1 {
		t.Errorf("%d series, want %d", n, maxNames+1)
	}
}

func TestHealthAndReflection(t *testing.T) {
	b := start(t, t.TempDir()+"/hub.db", Options{})
	conn, err := grpc.NewClient(b.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := healthpb.NewHealthClient(conn)
	for _, service := range []string{"", "TaskHubSidecarService"} {
		r, err := check.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, r, err)
		}
	}
	_, err = check.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "x"})
	wantCode(t, "an unknown service", err, codes.NotFound)
	watch, err := check.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if r, err := watch.Recv(); err != nil || r.GetStatus() != want {
			t.Errorf("watched: %v, %v, want %v", r, err, want)
		}
	}
	next(healthpb.HealthCheckResponse_SERVING)
	if _, err := b.client.DeleteTaskHub(t.Context(), &protos.DeleteTaskHubRequest{}); err != nil {
		t.Fatal(err)
	}
	next(healthpb.HealthCheckResponse_NOT_SERVING)
	if code := b.http(t, "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", code)
	}

	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "TaskHubSidecarService"},
	}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil || len(r.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection: %v, %v", r, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	_, err = watch.Recv()
	wantCode(t, "the watch of a stopped server", err, codes.Unavailable)
}
