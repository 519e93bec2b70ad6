package api

import "time"

// WaitReason says what kind of thing an instance waits for.
type WaitReason string

// The reasons, as they stand in JSON. An instance has one; each of its waits has one too.
const (
	WaitNothing   WaitReason = "over"             // it is finished
	WaitStalled   WaitReason = "stalled"          // it was set aside; the summary says why
	WaitSuspect   WaitReason = "suspect"          // processes died while it was active: it is tried alone
	WaitStore     WaitReason = "store"            // the last commit failed; it is tried again at Until
	WaitScheduled WaitReason = "scheduled"        // its start time is to come
	WaitSuspended WaitReason = "suspended"        // somebody paused it
	WaitTurn      WaitReason = "turn-queued"      // it has something to do and no worker has begun it
	WaitNoWorker  WaitReason = "no-worker"        // no worker that is connected hosts it
	WaitBusy      WaitReason = "workers-busy"     // every worker that hosts it has as much as it may have
	WaitRunning   WaitReason = "turn-running"     // a worker runs its orchestrator's code
	WaitCommit    WaitReason = "committing"       // what it did waits to be written
	WaitQueued    WaitReason = "activity-queued"  // an activity has not begun
	WaitActivity  WaitReason = "activity-running" // an activity runs
	WaitRetry     WaitReason = "retry"            // something that failed is tried again at Until
	WaitTimer     WaitReason = "timer"            // a timer is due at Until
	WaitChild     WaitReason = "child"            // a sub-orchestration is not over
	WaitEntity    WaitReason = "entity"           // an entity has not answered, or its lock is not granted
	WaitEvent     WaitReason = "event"            // an external event
)

// MaxWaits bounds how many waits a Verdict lists.
const MaxWaits = 100

// Verdict says why an instance does not move, or that it does.
type Verdict struct {
	InstanceID InstanceID `json:"id"`
	Status     string     `json:"status"`
	Reason     WaitReason `json:"reason"`
	// Summary is one sentence for people, without a full stop.
	Summary string    `json:"summary"`
	Since   time.Time `json:"since,omitzero"` // when this began, as far as it is known
	Until   time.Time `json:"until,omitzero"` // when it ends by itself
	// Waits is all that it waits for, the most telling first, at most MaxWaits.
	Waits []Wait `json:"waits,omitempty"`
	More  int    `json:"more,omitempty"` // waits that are not listed
}

// Wait is one thing that an instance waits for.
type Wait struct {
	Reason      WaitReason `json:"reason"`
	Name        string     `json:"name,omitempty"` // of the activity, child, entity or event; "" where it is not known
	Version     string     `json:"version,omitempty"`
	TaskID      int32      `json:"taskId"` // of the action, -1 for none
	Since       time.Time  `json:"since,omitzero"`
	Until       time.Time  `json:"until,omitzero"`
	Attempt     int        `json:"attempt,omitempty"`     // which one runs, or is to come
	MaxAttempts int        `json:"maxAttempts,omitempty"` // 0 where it is not known
	InstanceID  InstanceID `json:"instanceId,omitempty"`  // of the child or entity
	Worker      string     `json:"worker,omitempty"`      // id of the worker that has it
	Detail      string     `json:"detail,omitempty"`
	Summary     string     `json:"summary"`
}

// Worker is one connected worker.
type Worker struct {
	ID             string       `json:"id"`              // unique while the server runs
	Name           string       `json:"name,omitempty"`  // what it calls itself
	Address        string       `json:"address"`         // of its connection
	Agent          string       `json:"agent,omitempty"` // its SDK
	ConnectedAt    time.Time    `json:"connectedAt"`
	Draining       bool         `json:"draining,omitempty"` // it gets no more work
	Late           int          `json:"late,omitempty"`     // items that it had for too long
	Orchestrations WorkerSlots  `json:"orchestrations"`
	Activities     WorkerSlots  `json:"activities"`
	Entities       WorkerSlots  `json:"entities"`
	Items          []WorkerItem `json:"items,omitempty"` // what it has, oldest first
}

// WorkerSlots is what a worker takes of one kind of work.
type WorkerSlots struct {
	Limit   int  `json:"limit,omitempty"` // at a time; 0 for no limit
	Running int  `json:"running"`
	All     bool `json:"all,omitempty"` // it takes every name
	// Hosts has the versions by name, none for any version.
	Hosts map[string][]string `json:"hosts,omitempty"`
}

// Takes reports whether the worker hosts the name and version.
func (s WorkerSlots) Takes(name, version string) bool {
	if s.All {
		return true
	}
	versions, ok := s.Hosts[name]
	if !ok || len(versions) == 0 {
		return ok
	}
	for _, v := range versions {
		if v == version {
			return true
		}
	}
	return false
}

// Full reports whether the worker has as much as it takes.
func (s WorkerSlots) Full() bool { return s.Limit > 0 && s.Running >= s.Limit }

// WorkerItem is one piece of work that a worker has.
type WorkerItem struct {
	Kind       string     `json:"kind"` // orchestration, activity or entity
	InstanceID InstanceID `json:"instanceId"`
	TaskID     int32      `json:"taskId"` // of an activity, else 0
	Name       string     `json:"name"`
	Since      time.Time  `json:"since"`
}
