package sidecar

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/perdure/perdure/api/protos"
)

type kind uint8

const (
	orchestration kind = iota
	activity
	entity
	kinds
)

// key finds the item that an answer without a token is for.
type key struct {
	kind     kind
	instance string
	task     int32
}

// item is one work item. All but its first block is guarded by Dispatcher.mu.
type item struct {
	key           key
	name, version string
	orchestrator  *protos.OrchestratorRequest // either this
	activity      *protos.ActivityRequest     // or this
	entity        *protos.EntityRequest       // or this
	before        Turned                      // who may still have the orchestrator
	done          chan answer                 // takes the one answer without blocking

	seq      uint64
	since    time.Time // when it was queued, or given to its owner
	owner    *stream   // nil while queued
	token    string    // of the current offer
	avoid    map[*stream]bool
	abandons int
	losses   int         // how many workers went away with it
	lost     bool        // one of them since it was handed to the dispatcher
	timer    *time.Timer // ends the lease while offered, the rest while queued
	timerGen uint64
	size     int                          // of the whole request in bytes; 0 while nobody asked
	parts    *protos.OrchestratorResponse // chunks of the answer so far
	nextPart int32
}

type answer struct {
	message proto.Message
	by      Turned // of a turn
	err     error
}

// AfterProperty is the property of a turn without its past events, for a worker
// that keeps orchestrators: the completion token of the turn before.
const AfterProperty = "perdure.after"

// offer is an item with the token under which it was offered.
type offer struct {
	item *item
	work *protos.WorkItem
}

// work is what the stream is sent: for a turn, all that the worker does not have and that fits.
func (it *item) work(s *stream, limit int) *protos.WorkItem {
	w := &protos.WorkItem{CompletionToken: it.token}
	switch {
	case it.orchestrator != nil:
		req := it.orchestrator
		if it.before.stream == s {
			req = withoutHistory(req)
			req.Properties = map[string]*structpb.Value{AfterProperty: structpb.NewStringValue(it.before.token)}
		} else if s.streaming && it.bytes() > min(limit, s.maxMessage) {
			req = withoutHistory(req)
			req.RequiresHistoryStreaming = true
		}
		w.Request = &protos.WorkItem_OrchestratorRequest{OrchestratorRequest: req}
	case it.entity != nil:
		w.Request = &protos.WorkItem_EntityRequestV2{EntityRequestV2: it.entity}
	default:
		w.Request = &protos.WorkItem_ActivityRequest{ActivityRequest: it.activity}
	}
	return w
}

// collect takes a response, or a chunk of one. It returns the whole once it is
// there, and ok false where a chunk is missing.
func (it *item) collect(r *protos.OrchestratorResponse) (whole *protos.OrchestratorResponse, ok bool) {
	if !r.GetIsPartial() && it.parts == nil && r.GetChunkIndex().GetValue() == 0 {
		return r, true
	}
	if i := r.GetChunkIndex(); i != nil {
		switch {
		case i.GetValue() < it.nextPart && r.GetIsPartial():
			return nil, true // the worker sent it again
		case i.GetValue() != it.nextPart:
			return nil, false
		}
	}
	it.nextPart++
	if it.parts == nil {
		it.parts = &protos.OrchestratorResponse{InstanceId: r.GetInstanceId(), CompletionToken: r.GetCompletionToken()}
	}
	p := it.parts
	p.Actions = append(p.Actions, r.GetActions()...)
	if r.GetCustomStatus() != nil {
		p.CustomStatus = r.GetCustomStatus()
	}
	if r.GetNumEventsProcessed() != nil && p.NumEventsProcessed == nil {
		p.NumEventsProcessed = r.GetNumEventsProcessed()
	}
	if r.GetOrchestrationTraceContext() != nil {
		p.OrchestrationTraceContext = r.GetOrchestrationTraceContext()
	}
	if r.GetIsPartial() {
		return nil, true
	}
	return p, true
}
