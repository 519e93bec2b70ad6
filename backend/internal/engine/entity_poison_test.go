package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/task"
)

// crooked runs entities, but what it does with the batches is up to mend.
type crooked struct {
	backend.Executor
	mend func(r *protos.EntityRequest, run func(*protos.EntityRequest) *protos.EntityBatchResult) (*protos.EntityBatchResult, error)
}

func (x *crooked) ExecuteEntity(ctx context.Context, r *protos.EntityRequest) (*protos.EntityBatchResult, error) {
	return x.mend(r, func(r *protos.EntityRequest) *protos.EntityBatchResult {
		result, err := x.Executor.(backend.EntityExecutor).ExecuteEntity(ctx, r)
		if err != nil {
			panic(err)
		}
		return result
	})
}

func has(r *protos.EntityRequest, operation string) bool {
	for _, e := range r.GetOperationRequests() {
		if e.GetEntityOperationCalled().GetOperation() == operation || e.GetEntityOperationSignaled().GetOperation() == operation {
			return true
		}
	}
	return false
}

func TestCrookedBatches(t *testing.T) {
	failed := func(final bool) *protos.EntityBatchResult {
		return &protos.EntityBatchResult{FailureDetails: &protos.TaskFailureDetails{
			ErrorType: "crooked", ErrorMessage: "nothing done", IsNonRetriable: final,
		}}
	}
	type run = func(*protos.EntityRequest) *protos.EntityBatchResult
	tries := 0
	for _, tt := range []struct {
		name string
		mend func(*protos.EntityRequest, run) (*protos.EntityBatchResult, error)
		want string // how the bad call fails; "" where it does not
		in   time.Duration
	}{
		{"an error", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			if has(r, "bad") {
				return nil, errors.New("connection lost")
			}
			return run(r), nil
		}, "EntityPoisoned: the batch failed 10 times, the last time with: execute: connection lost", 45 * time.Second},
		{"a panic", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			if has(r, "bad") {
				panic("host")
			}
			return run(r), nil
		}, "EntityPoisoned: the batch failed 10 times", 45 * time.Second},
		{"a failure of the batch", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			if tries++; has(r, "bad") && tries < 4 {
				return failed(false), nil
			}
			return run(r), nil
		}, "*errors.errorString: no operation \"bad\"", 10 * time.Second},
		{"a final failure of the batch", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			if has(r, "bad") {
				return failed(true), nil
			}
			return run(r), nil
		}, "crooked: nothing done", 2 * time.Second},
		{"a part of the results", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			r.OperationRequests = r.GetOperationRequests()[:1+len(r.GetOperationRequests())/3]
			return run(r), nil
		}, "*errors.errorString: no operation \"bad\"", 0},
		{"too many results", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			result := run(r)
			if has(r, "bad") {
				result.Results = append(result.Results, result.GetResults()...)
			}
			return result, nil
		}, "EntityPoisoned: the batch failed 10 times", 45 * time.Second},
		{"a state that is too large", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			result := run(r)
			if has(r, "bad") {
				result.EntityState = wrapperspb.String(strings.Repeat("1", 5000))
			}
			return result, nil
		}, "InvalidEntityResult: invalid input: the state of @account@a has 5000 bytes, the limit of a payload is 4000", 2 * time.Second},
		{"an action that makes no sense", func(r *protos.EntityRequest, run run) (*protos.EntityBatchResult, error) {
			result := run(r)
			if has(r, "bad") {
				result.Actions = append(result.Actions, &protos.OperationAction{Id: 7})
			}
			return result, nil
		}, "InvalidEntityResult: action 7 of @account@a: invalid input: unknown action type", 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tries = 0
			synctest.Test(t, func(t *testing.T) {
				r := entityRegistry(t)
				orchestrate(t, r, "o", func(c *task.OrchestrationContext) (any, error) {
					id := api.NewEntityID("account", "a")
					calls := []task.Task{c.CallEntity(id, "add", task.WithEntityInput(1))}
					calls = append(calls, c.CallEntity(id, "bad"), c.CallEntity(id, "add", task.WithEntityInput(10)))
					var first, last int
					if err := errors.Join(calls[0].Await(&first), calls[2].Await(&last)); err != nil {
						return nil, err
					}
					err := calls[1].Await(nil)
					var failed *task.TaskFailedError
					if errors.As(err, &failed) {
						return fmt.Sprint(first, last, " ", failed.Type, ": ", failed.Message), nil
					}
					return nil, fmt.Errorf("the bad call: %w", err)
				})
				log := silent{}
				be := engine.New(memstore.New(), log, engine.Options{MaxPayload: 4000})
				x := &crooked{Executor: task.NewTaskExecutor(r), mend: tt.mend}
				w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, x, log), backend.NewActivityTaskWorker(be, x, log), log)
				if err := w.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				c, began := backend.NewClient(be), time.Now()
				id, err := c.ScheduleNewOrchestration(t.Context(), "o")
				if err != nil {
					t.Fatal(err)
				}
				m, err := c.WaitForOrchestrationCompletion(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if d := time.Since(began).Truncate(time.Second); d > tt.in {
					t.Errorf("it took %v, want %v at most", d, tt.in)
				}
				var got string
				_ = json.Unmarshal([]byte(m.SerializedOutput), &got)
				if want := "1 11 " + tt.want; !strings.HasPrefix(got, want) {
					t.Errorf("got %q %v, want %q", got, m.FailureDetails, want)
				}
				if err := w.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
