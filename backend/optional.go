package backend

import (
	"context"
	"sync"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// The optional interfaces of a Backend, found by type assertion. Whoever uses
// one has a fallback for a backend that lacks it, or returns api.ErrUnsupported.
type (
	// WorkItemAwaiter waits for work where the Get methods would return
	// ErrNoWorkItems, so that workers need not poll. Both block until there is
	// an item or the context ends.
	WorkItemAwaiter interface {
		AwaitOrchestrationWorkItem(context.Context) (*OrchestrationWorkItem, error)
		AwaitActivityWorkItem(context.Context) (*ActivityWorkItem, error)
	}

	// WorkItemSelector is a WorkItemAwaiter for callers that cannot have
	// everything run: it hands out only what want accepts by name and version
	// (nil accepts all), and turns that need nobody to run them. An activity
	// without a version counts as of its orchestration's. want must not block
	// nor call the backend; where it begins to accept more, the caller asks again.
	WorkItemSelector interface {
		WorkItemAwaiter
		SelectOrchestrationWorkItem(ctx context.Context, want func(name, version string) bool) (*OrchestrationWorkItem, error)
		SelectActivityWorkItem(ctx context.Context, want func(name, version string) bool) (*ActivityWorkItem, error)
		// ReturnOrchestrationWorkItem is AbandonOrchestrationWorkItem for an item
		// that was not begun: it counts as no attempt and is ready at once.
		ReturnOrchestrationWorkItem(context.Context, *OrchestrationWorkItem) error
	}

	// InstanceAwaiter waits until an instance has left PENDING, or where
	// completed is set until it is over; api.ErrInstanceNotFound.
	InstanceAwaiter interface {
		AwaitInstance(ctx context.Context, id api.InstanceID, completed bool) (*api.OrchestrationMetadata, error)
	}

	// InstanceReplacer starts an instance under an id reuse policy;
	// api.ErrDuplicateInstance where it forbids the start.
	InstanceReplacer interface {
		CreateOrReplaceInstance(ctx context.Context, start *HistoryEvent, policy *protos.OrchestrationIdReusePolicy) error
	}

	// FreshCreator starts an instance whose id was made for it, such as a new
	// UUID, so that nobody needs to look whether it is taken. One that is taken
	// all the same is an error.
	FreshCreator interface {
		CreateFreshInstance(ctx context.Context, start *HistoryEvent) error
	}

	// InstanceQuerier lists instances.
	InstanceQuerier interface {
		QueryInstances(context.Context, api.InstanceQuery) (*api.InstancePage, error)
	}

	// FinishedLister lists the ids of instances that are over.
	FinishedLister interface {
		ListFinished(context.Context, api.FinishedQuery) (*api.FinishedPage, error)
	}

	// InstanceCounter counts the instances of a query by status; order, paging
	// and payloads do not count.
	InstanceCounter interface {
		CountInstances(context.Context, api.InstanceQuery) (map[api.OrchestrationStatus]int64, error)
	}

	// HistoryReader reads the stored history of an instance, oldest event
	// first, in portions of one turn; an error of f ends it and is returned.
	HistoryReader interface {
		ReadHistory(ctx context.Context, id api.InstanceID, f func([]*HistoryEvent) error) error
	}

	// InstanceManager does what operators ask of whole trees of instances.
	InstanceManager interface {
		// PurgeInstance deletes a finished instance and, where recursive, its
		// finished descendants, and returns how many were deleted. With force
		// it deletes unfinished ones too and loads no history.
		// api.ErrInstanceNotFound, api.ErrNotCompleted.
		PurgeInstance(ctx context.Context, id api.InstanceID, recursive, force bool) (int, error)
		// ForceTerminate ends an instance without loading its history.
		ForceTerminate(ctx context.Context, id api.InstanceID, output *string) error
		// RewindInstance lets a failed instance go on from before its failure;
		// api.ErrInstanceNotFound, api.ErrNotFailed.
		RewindInstance(ctx context.Context, id api.InstanceID, reason string) error
	}

	// Explainer says why an instance does not move; api.ErrInstanceNotFound.
	// It changes nothing.
	Explainer interface {
		ExplainInstance(ctx context.Context, id api.InstanceID) (*api.Verdict, error)
	}

	// WorkerReporter lists the workers that are connected to an executor, in
	// the order in which they came.
	WorkerReporter interface {
		Workers() []api.Worker
	}

	// InstanceExporter reads all that is stored of an instance;
	// api.ErrInstanceNotFound. Stop the instance's work first, or it goes on in two places.
	InstanceExporter interface {
		ExportInstance(context.Context, api.InstanceID) (*api.InstanceBundle, error)
	}

	// InstanceImporter stores an instance as it was elsewhere, in one commit,
	// and lets it go on; ErrDuplicateEvent where the id is taken.
	InstanceImporter interface {
		ImportInstance(context.Context, *api.InstanceBundle) error
	}

	// Reader reads a task hub that another process may own. It takes no
	// part in its work and changes nothing.
	Reader interface {
		InstanceQuerier
		InstanceCounter
		HistoryReader
		Explainer
		InstanceExporter
		HubVerifier
		// GetOrchestrationMetadata reads one instance; api.ErrInstanceNotFound.
		GetOrchestrationMetadata(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error)
		Close() error
	}

	// InstanceStaller sets instances aside with a reason that people can read.
	InstanceStaller interface {
		// StallInstance ends the item's turn, which counts as no attempt, and
		// gives the instance no other until it is revived.
		StallInstance(ctx context.Context, wi *OrchestrationWorkItem, reason string) error
		// ReviveInstance lets a stalled instance go on; api.ErrInstanceNotFound.
		// One that is not stalled is left as it is.
		ReviveInstance(ctx context.Context, id api.InstanceID) error
	}

	// PayloadLimiter says how many bytes one payload may have: an input, an
	// output, an event's data, a custom status. A turn that goes beyond it fails its instance.
	PayloadLimiter interface {
		MaxPayload() int
	}
	// HubVerifier reads everything that is stored and checks that each instance
	// can go on from it. It calls found for each fault, whose error ends the reading.
	HubVerifier interface {
		VerifyHub(ctx context.Context, found func(id api.InstanceID, fault string) error) (HubSummary, error)
	}

	// HealthReporter says why the backend refuses work; nil while it works.
	HealthReporter interface {
		Health() error
	}
)

// HubSummary is what a HubVerifier has read.
type HubSummary struct {
	Instances int `json:"instances"`
	Events    int `json:"events"`
	Messages  int `json:"messages"` // that no turn has consumed
	Stalled   int `json:"stalled"`
	Faults    int `json:"faults"`
}

// TurnExecutor is the optional interface of an OrchestratorExecutor that keeps
// an orchestrator blocked at its await between turns. The executor keeps what
// it needs in the state's continuation; the state drops it when it cannot be
// trusted any more, and a turn without one replays OldEvents.
type TurnExecutor interface {
	ExecuteTurn(ctx context.Context, state *OrchestrationRuntimeState) (*ExecutionResults, error)
}

// Continuation is an orchestrator that waits between two turns. Stop unwinds
// it: its deferred functions have run when Stop returns.
type Continuation interface {
	Stop()
}

// Waiter is the optional interface of a Continuation that can say more than
// history about what its orchestrator waits for: the names of events
// (api.WaitEvent), and attempts to come (api.WaitRetry), whose Until is that of their timers.
type Waiter interface {
	// Waits returns nil while the orchestrator runs.
	Waits() []api.Wait
}

// ActivityInfo is what an activity may know of its execution.
type ActivityInfo struct {
	InstanceID  api.InstanceID
	ExecutionID string
	TaskID      int32
	Attempt     int32  // from 1: how often this task was begun in this process, without those that a shutdown stopped
	Version     string // of the activity or, where it has none, of its orchestration
}

type activityInfoKey struct{}

// ContextWithActivityInfo returns a context that carries info.
func ContextWithActivityInfo(ctx context.Context, info ActivityInfo) context.Context {
	return context.WithValue(ctx, activityInfoKey{}, info)
}

// ActivityInfoFromContext returns what ContextWithActivityInfo put there.
func ActivityInfoFromContext(ctx context.Context) (ActivityInfo, bool) {
	info, ok := ctx.Value(activityInfoKey{}).(ActivityInfo)
	return info, ok
}

type activityLease struct {
	mu   sync.Mutex
	lost bool
	f    func()
	info ActivityInfo
}

// SetInfo is called by a backend that knows the execution of the item.
func (wi *ActivityWorkItem) SetInfo(info ActivityInfo) { wi.lease.info = info }

// Info returns what SetInfo set, or the instance and task ids.
func (wi *ActivityWorkItem) Info() ActivityInfo {
	if wi.lease.info == (ActivityInfo{}) {
		return ActivityInfo{InstanceID: wi.InstanceID, TaskID: wi.NewEvent.GetEventId(), Attempt: 1}
	}
	return wi.lease.info
}

// OnLost registers a function to be called, once, when the item's result is no
// longer wanted: its instance ended, was purged or moved to another owner.
func (wi *ActivityWorkItem) OnLost(f func()) {
	wi.lease.mu.Lock()
	lost := wi.lease.lost
	wi.lease.f = f
	wi.lease.mu.Unlock()
	if lost {
		f()
	}
}

// Lose is called by a backend to say that the item's result is no longer wanted.
func (wi *ActivityWorkItem) Lose() {
	wi.lease.mu.Lock()
	f, was := wi.lease.f, wi.lease.lost
	wi.lease.lost = true
	wi.lease.mu.Unlock()
	if f != nil && !was {
		f()
	}
}
