package engine

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// ExportInstance reads all that is stored of an instance. Of one that runs it
// is a state that it had, with what was stored for it since.
func (e *Engine) ExportInstance(ctx context.Context, id api.InstanceID) (*api.InstanceBundle, error) {
	if api.IsEntityID(id) {
		return nil, fmt.Errorf("%w: %s is an entity", api.ErrUnsupported, id)
	}
	row, err := e.row(ctx, id)
	if err != nil {
		return nil, err
	}
	// The inbox first: what a turn consumes meanwhile is in the history then,
	// twice at most, and never in neither.
	inbox, err := e.st.Inbox(ctx, row.Key)
	if err != nil {
		return nil, fmt.Errorf("read inbox of %s: %w", id, err)
	}
	b := &api.InstanceBundle{ParentTaskID: row.ParentTask, ParentExecutionID: row.ParentExec}
	for _, r := range inbox {
		ev, err := backend.UnmarshalHistoryEvent(r.Event)
		if err != nil {
			return nil, fmt.Errorf("%w: inbox record %d of %s: %w", store.ErrCorrupt, r.Seq, id, err)
		}
		b.Inbox = append(b.Inbox, ev)
	}
	if err := e.ReadHistory(ctx, id, func(events []*backend.HistoryEvent) error {
		b.History = append(b.History, events...)
		return nil
	}); err != nil {
		return nil, err
	}
	if row, err = e.row(ctx, id); err != nil { // not older than the history
		return nil, err
	}
	b.Metadata = metadataOf(row)
	return b, nil
}

// imported is a bundle on its way into the store.
type imported struct {
	row   *store.Instance
	turns [][]byte
	inbox []*backend.HistoryEvent
	state *backend.OrchestrationRuntimeState // where it is neither parked nor over
	bytes int
}

// ImportInstance stores an instance as it was elsewhere, and lets it go on.
// A taken id is backend.ErrDuplicateEvent.
func (e *Engine) ImportInstance(ctx context.Context, b *api.InstanceBundle) error {
	if !e.isOpen() {
		return backend.ErrNotInitialized
	}
	p, err := e.prepareImport(b)
	if err != nil {
		return fmt.Errorf("import %s: %w", b.Metadata.InstanceID, err)
	}
	i, err := e.pin(ctx, p.row.ID)
	if err != nil {
		return err
	}
	defer e.unpin(i)
	var stored []store.InboxRow
	return e.submit(&op{
		build: func(bt *builder) error {
			if i.gone {
				return backend.ErrNotInitialized
			}
			if i.exists() {
				return fmt.Errorf("%w: %s", backend.ErrDuplicateEvent, i.id)
			}
			e.nextKey++
			p.row.Key = e.nextKey
			bt.insert(p.row)
			for _, turn := range p.turns {
				bt.history(p.row.Key, p.row.UpdatedAt, turn)
			}
			stored = nil
			for _, ev := range p.inbox {
				seq, err := bt.store(p.row.Key, ev)
				if err != nil {
					return err
				}
				data, err := proto.Marshal(ev)
				if err != nil {
					return err
				}
				stored = append(stored, store.InboxRow{Seq: seq, Key: p.row.Key, Event: data})
			}
			return nil
		},
		apply: func(err error) {
			if err != nil {
				return
			}
			e.revive(i, p.row, found{inbox: stored, state: p.state, bytes: p.bytes})
			if due := p.row.Due; due != 0 && due != store.Far && p.row.Unfinished {
				e.wakeAt(due, p.row.Key)
			}
			e.arm(i)
			e.notify(i.id)
		},
	})
}

func (e *Engine) prepareImport(b *api.InstanceBundle) (*imported, error) {
	m := b.Metadata
	if err := e.checkID(string(m.InstanceID)); err != nil {
		return nil, err
	}
	for _, ev := range slices.Concat(b.History, b.Inbox) {
		if ev.GetEventType() == nil {
			return nil, fmt.Errorf("%w: an event of it has no type", api.ErrInvalidInput)
		}
	}
	state := backend.NewOrchestrationRuntimeState(m.InstanceID, b.History)
	row, err := importedRow(b, state)
	if err != nil {
		return nil, err
	}
	p := &imported{row: row, inbox: b.Inbox}
	var turn []*backend.HistoryEvent
	flush := func() error {
		data, err := encodeEvents(turn)
		if len(turn) > 0 {
			p.turns = append(p.turns, data)
			p.bytes += len(data) * residentFactor
		}
		turn = nil
		return err
	}
	for _, ev := range state.OldEvents() {
		if ev.GetOrchestratorStarted() != nil {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		turn = append(turn, ev)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if row.Unfinished && row.Due == 0 && row.Status != int32(api.RUNTIME_STATUS_PENDING) {
		p.state, p.bytes = state, p.bytes+residentBase
	}
	return p, nil
}

// importedRow makes the row that the engine would have written with the last turn.
func importedRow(b *api.InstanceBundle, s *backend.OrchestrationRuntimeState) (*store.Instance, error) {
	m := b.Metadata
	status := m.RuntimeStatus
	if len(b.History) > 0 && !api.IsTerminal(status) {
		status = s.RuntimeStatus() // what is to go on must be what it goes on from
	}
	row := &store.Instance{
		ID: string(m.InstanceID), Partition: partitionOf(string(m.InstanceID)), ExecutionID: m.ExecutionID, Name: m.Name,
		Status: int32(status), Unfinished: !api.IsTerminal(status),
		CreatedAt: nanos(m.CreatedAt), UpdatedAt: micros(m.LastUpdatedAt), CompletedAt: micros(m.CompletedAt),
		ParentID: string(m.ParentInstanceID), ParentTask: b.ParentTaskID, ParentExec: b.ParentExecutionID,
		Version: optionalText(m.Version), Input: optionalText(m.SerializedInput), Output: optionalText(m.SerializedOutput),
		CustomStatus: optionalText(m.SerializedCustomStatus),
	}
	var err error
	if row.Tags, err = encodeTags(m.Tags); err != nil {
		return nil, err
	}
	if m.FailureDetails != nil {
		if row.Failure, err = proto.Marshal(m.FailureDetails); err != nil {
			return nil, err
		}
	}
	switch {
	case !row.Unfinished:
		row.CompletedAt = max(row.CompletedAt, 1)
	case len(b.History) == 0:
		if err := checkPending(b); err != nil {
			return nil, err
		}
		row.ScheduledAt = micros(m.ScheduledStartAt)
		row.Due = row.ScheduledAt
	case s.StartEvent() == nil:
		return nil, fmt.Errorf("%w: its history has no start", api.ErrInvalidInput)
	case s.OpenTaskCount() == 0 && !s.NeedsTurn():
		probe := instance{}
		s.OpenTimers(probe.addTimer)
		row.Due = store.Far
		if len(probe.timers) > 0 {
			row.Due = probe.timers[0].due
		}
	}
	return row, nil
}

// checkPending wants the start of an instance that had no turn yet.
func checkPending(b *api.InstanceBundle) error {
	for _, ev := range b.Inbox {
		if ev.GetExecutionStarted() != nil {
			return nil
		}
	}
	return fmt.Errorf("%w: it has neither a history nor a start", api.ErrInvalidInput)
}

func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
