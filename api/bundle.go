package api

import "github.com/perdure/perdure/api/protos"

// InstanceBundle is all that is stored of one orchestration instance, so that
// it can go on in another task hub. Its timers and open activities are in its history.
type InstanceBundle struct {
	Metadata *OrchestrationMetadata
	// ParentTaskID is the action of the parent that this instance is the
	// outcome of; it counts where Metadata has a parent.
	ParentTaskID      int32
	ParentExecutionID string
	History           []*protos.HistoryEvent // oldest first; empty before the first turn
	Inbox             []*protos.HistoryEvent // what no turn has consumed, in order
}
