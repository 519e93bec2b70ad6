package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

// Histories under testdata/histories are never rewritten. A new set is put
// beside them, in a folder of its own, with
//
//	go test ./backend/sqlite -run TestRecordGoldenHistories -recordhistories NAME
//
// Programs in golden_programs_test.go that have a history must not change; new ones may come.
var recordHistories = flag.String("recordhistories", "", "TestRecordGoldenHistories: the name of the new set")

// goldenExecution is one execution as the executor saw it: each turn got the
// first Old events of History and New, and asked for Actions.
type goldenExecution struct {
	Instance api.InstanceID
	Program  string
	History  []json.RawMessage
	Turns    []goldenTurn
}

type goldenTurn struct {
	Old          int
	New, Actions []json.RawMessage
}

func marshalAll[M proto.Message](t *testing.T, ms []M) []json.RawMessage {
	t.Helper()
	out := []json.RawMessage{}
	for _, m := range ms {
		b, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func unmarshalAll[M proto.Message](t *testing.T, raw []json.RawMessage, fresh func() M) []M {
	t.Helper()
	out := []M{}
	for _, r := range raw {
		m := fresh()
		if err := protojson.Unmarshal(r, m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func newEvent() *protos.HistoryEvent        { return &protos.HistoryEvent{} }
func newAction() *protos.OrchestratorAction { return &protos.OrchestratorAction{} }

// Every turn of every stored history, replayed by today's code, asks for what it asked for then.
func TestGoldenHistoriesReplay(t *testing.T) {
	x := task.NewTaskExecutor(goldenPrograms(t))
	eachGolden(t, func(t *testing.T, e goldenExecution, history []*protos.HistoryEvent) {
		for n, turn := range e.Turns {
			want := unmarshalAll(t, turn.Actions, newAction)
			r, err := x.ExecuteOrchestrator(t.Context(), e.Instance, history[:turn.Old], unmarshalAll(t, turn.New, newEvent))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, r.Response.GetActions(), protocmp.Transform(), cmpopts.EquateEmpty(),
				protocmp.IgnoreFields(&protos.TaskFailureDetails{}, "stackTrace")); diff != "" {
				t.Errorf("turn %d (-then +now):\n%s", n+1, diff)
			}
		}
	})
}

// A changed orchestrator is refused: one that does something else first, and
// one that does nothing, wherever history says that something was done.
func TestGoldenHistoriesRefuseChangedCode(t *testing.T) {
	refused := 0
	for name, changed := range map[string]task.Orchestrator{
		"other": func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CallActivity("changed").Await(nil) },
		"none":  func(*task.OrchestrationContext) (any, error) { return nil, nil },
	} {
		eachGolden(t, func(t *testing.T, e goldenExecution, history []*protos.HistoryEvent) {
			x := task.NewTaskExecutor(newRegistry(t, map[string]task.Orchestrator{e.Program: changed}, nil))
			for n, turn := range e.Turns {
				if !slices.ContainsFunc(history[:turn.Old], func(h *protos.HistoryEvent) bool { return !backend.IsMessage(h) && h.GetEventId() >= 0 }) ||
					strings.Contains(fmt.Sprint(turn.New), "executionTerminated") {
					continue // nothing was done yet, or the code is not run any more
				}
				r, err := x.ExecuteOrchestrator(t.Context(), e.Instance, history[:turn.Old], unmarshalAll(t, turn.New, newEvent))
				if err != nil {
					t.Fatal(err)
				}
				a := r.Response.GetActions()
				if len(a) != 1 || a[0].GetCompleteOrchestration().GetFailureDetails().GetErrorType() != task.ErrorTypeNonDeterminism {
					t.Errorf("%s: turn %d is not refused: %v", name, n+1, a)
				}
				refused++
			}
		})
	}
	if refused < 20 {
		t.Errorf("only %d turns could have been refused", refused)
	}
}

func eachGolden(t *testing.T, f func(*testing.T, goldenExecution, []*protos.HistoryEvent)) {
	t.Helper()
	files, err := filepath.Glob("testdata/histories/*/*.json")
	if err != nil || len(files) < len(goldenRuns) {
		t.Fatalf("golden histories: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var executions []goldenExecution
			if err := json.Unmarshal(data, &executions); err != nil || len(executions) == 0 {
				t.Fatalf("%d executions, %v", len(executions), err)
			}
			for _, e := range executions {
				f(t, e, unmarshalAll(t, e.History, newEvent))
			}
		})
	}
}

// recorder writes down each turn that its executor runs.
type recorder struct {
	backend.Executor
	backend.EntityExecutor
	t          *testing.T
	mu         sync.Mutex
	executions map[string]*goldenExecution // by instance and execution
	order      []string
}

func (r *recorder) ExecuteTurn(ctx context.Context, s *backend.OrchestrationRuntimeState) (*backend.ExecutionResults, error) {
	old, fresh := s.OldEvents(), marshalAll(r.t, s.NewEvents())
	res, err := r.Executor.(backend.TurnExecutor).ExecuteTurn(ctx, s)
	if err != nil {
		return res, err
	}
	var begun *protos.ExecutionStartedEvent
	for _, e := range slices.Concat(old, s.NewEvents()) {
		if begun == nil {
			begun = e.GetExecutionStarted()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := string(s.InstanceID()) + " " + begun.GetOrchestrationInstance().GetExecutionId().GetValue()
	e, ok := r.executions[key]
	if !ok {
		e = &goldenExecution{Instance: s.InstanceID(), Program: begun.GetName()}
		r.executions[key], r.order = e, append(r.order, key)
	}
	e.History = marshalAll(r.t, old)
	e.Turns = append(e.Turns, goldenTurn{len(old), fresh, marshalAll(r.t, res.Response.GetActions())})
	return res, nil
}

// TestRecordGoldenHistories runs every program and writes what its turns were, and never over another set.
func TestRecordGoldenHistories(t *testing.T) {
	if *recordHistories == "" {
		t.Skip("-recordhistories names no set")
	}
	dir := filepath.Join("testdata/histories", *recordHistories)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is there, and stays as it is: %v", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, run := range goldenRuns {
		ex := task.NewTaskExecutor(goldenPrograms(t))
		rec := &recorder{Executor: ex, EntityExecutor: ex.(backend.EntityExecutor), t: t, executions: map[string]*goldenExecution{}}
		log := backend.DefaultLogger()
		be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(filepath.Join(t.TempDir(), "hub.db")), log)
		w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, rec, log), backend.NewActivityTaskWorker(be, rec, log), log)
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := backend.NewClient(be)
		id, err := c.ScheduleNewOrchestration(t.Context(), name, api.WithInstanceID(api.InstanceID(name)), api.WithVersion("2"), api.WithInput(3))
		if err != nil {
			t.Fatal(err)
		}
		if err := run.drive(t.Context(), c, id); err != nil {
			t.Fatal(err)
		}
		if m := complete(t, c, id); m.RuntimeStatus != run.status {
			t.Errorf("%s: %v %s %v", name, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails)
		}
		if err := w.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		var all []*goldenExecution
		for _, key := range rec.order {
			all = append(all, rec.executions[key])
		}
		data, err := json.MarshalIndent(all, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".json"), append(data, '\n'), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
