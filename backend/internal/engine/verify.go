package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// VerifyHub reads everything that is stored and checks that each instance can
// go on from it. It calls found for each fault; its error ends the reading.
func (r *Reader) VerifyHub(ctx context.Context, found func(id api.InstanceID, fault string) error) (backend.HubSummary, error) {
	var sum backend.HubSummary
	for after := int64(0); ; {
		rows, err := r.e.st.Query(ctx, store.Filter{AfterKey: after, Limit: scanPage, Payloads: true})
		if err != nil {
			return sum, fmt.Errorf("verify: %w", err)
		}
		for _, row := range rows {
			after = row.Key
			faults, err := r.verifyAtRest(ctx, row, &sum)
			if err != nil {
				return sum, fmt.Errorf("verify %s: %w", row.ID, err)
			}
			for _, f := range faults {
				sum.Faults++
				if err := found(api.InstanceID(row.ID), f); err != nil {
					return sum, err
				}
			}
		}
		if len(rows) < scanPage {
			return sum, nil
		}
	}
}

// verifyTries bounds how often an instance is looked at that seems faulty while it changes.
const verifyTries = 5

// verifyAtRest looks again where an instance with faults has changed meanwhile:
// its row and its history are read one after the other.
func (r *Reader) verifyAtRest(ctx context.Context, row *store.Instance, sum *backend.HubSummary) (faults []string, err error) {
	before := *sum
	for range verifyTries {
		*sum = before
		if faults, err = r.verify(ctx, row, sum); err != nil || len(faults) == 0 {
			return faults, err
		}
		now, err := r.e.st.ByKey(ctx, row.Key)
		if errors.Is(err, store.ErrNotFound) {
			*sum = before
			return nil, nil
		}
		if err != nil || now.UpdatedAt == row.UpdatedAt && now.Status == row.Status {
			return faults, err
		}
		row = now
	}
	return faults, nil
}

func (r *Reader) verify(ctx context.Context, row *store.Instance, sum *backend.HubSummary) (faults []string, err error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	sum.Instances++
	if row.Stalled != "" {
		sum.Stalled++
	}
	if _, err := decodeRow(row); err != nil {
		fault("its row cannot be read: %v", err)
	}
	if over := api.IsTerminal(api.OrchestrationStatus(row.Status)); over == row.Unfinished {
		fault("it is %s and marked as unfinished: %v", api.StatusName(api.OrchestrationStatus(row.Status)), row.Unfinished)
	}
	var events []*backend.HistoryEvent
	last := int64(0)
	err = r.e.st.History(ctx, row.Key, 0, func(h store.HistoryRow) error {
		part, err := decodeEvents(h.Events)
		switch {
		case errors.Is(err, store.ErrCorrupt):
			fault("history record %d: %v", h.LSN, err)
			return nil
		case h.LSN <= last:
			fault("history record %d comes after %d", h.LSN, last)
		}
		last = h.LSN
		events = append(events, part...)
		return err
	})
	if err != nil {
		return faults, err
	}
	inbox, err := r.e.st.Inbox(ctx, row.Key)
	if err != nil {
		return faults, err
	}
	for _, m := range inbox {
		if _, err := backend.UnmarshalHistoryEvent(m.Event); err != nil {
			fault("inbox record %d: %v", m.Seq, err)
		}
	}
	sum.Events += len(events)
	sum.Messages += len(inbox)
	if api.IsEntityID(api.InstanceID(row.ID)) || len(faults) > 0 {
		return faults, nil
	}
	r.compare(row, events, len(inbox), fault)
	return faults, nil
}

// compare holds the row of an orchestration against its history.
func (r *Reader) compare(row *store.Instance, events []*backend.HistoryEvent, inbox int, fault func(string, ...any)) {
	s := backend.NewOrchestrationRuntimeState(api.InstanceID(row.ID), events)
	status := api.OrchestrationStatus(row.Status)
	switch {
	case len(events) == 0:
		if row.Unfinished && inbox == 0 {
			fault("it has neither a history nor a message, and can never start")
		}
		return
	case s.StartEvent() == nil:
		fault("its history has no start")
		return
	case s.ExecutionID() != row.ExecutionID:
		fault("its row names the execution %q, its history %q", row.ExecutionID, s.ExecutionID())
	}
	forced := status == api.RUNTIME_STATUS_TERMINATED && !s.IsCompleted() // ended without a turn
	if !forced && s.RuntimeStatus() != status {
		fault("its row says %s, its history %s", api.StatusName(status), api.StatusName(s.RuntimeStatus()))
	}
	if row.Unfinished && row.Due != 0 && s.OpenTaskCount() > 0 {
		fault("it is parked though %d activities are open", s.OpenTaskCount())
	}
}
