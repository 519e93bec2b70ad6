package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// partitions is how many logical partitions a task hub has. It can never change.
const partitions = 256

func partitionOf(id string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int32(h.Sum32() % partitions)
}

func text(v *wrapperspb.StringValue) *string {
	if v == nil {
		return nil
	}
	return &v.Value
}

func encodeTags(tags map[string]string) ([]byte, error) {
	if len(tags) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(tags)
	if err != nil {
		return nil, fmt.Errorf("%w: tags: %w", api.ErrInvalidInput, err)
	}
	return b, nil
}

// decodeEvents reads what encodeEvents wrote; store.ErrCorrupt.
func decodeEvents(b []byte) ([]*backend.HistoryEvent, error) {
	var events []*backend.HistoryEvent
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n == 0 || n > uint64(len(b)-used) { // no event is empty; a page of zeros is not millions of them
			return nil, fmt.Errorf("%w: event %d has no valid length", store.ErrCorrupt, len(events))
		}
		ev := &backend.HistoryEvent{}
		if err := proto.Unmarshal(b[used:used+int(n)], ev); err != nil {
			return nil, fmt.Errorf("%w: event %d: %w", store.ErrCorrupt, len(events), err)
		}
		events = append(events, ev)
		b = b[used+int(n):]
	}
	return events, nil
}

// residentFactor is roughly how much memory a decoded event takes for each stored byte.
const residentFactor = 4

// residentBase is roughly what a resident instance takes beside its history.
const residentBase = 8 << 10

func (e *Engine) loadState(ctx context.Context, row *store.Instance) (*backend.OrchestrationRuntimeState, int, error) {
	var events []*backend.HistoryEvent
	bytes := residentBase
	err := e.st.History(ctx, row.Key, 0, func(r store.HistoryRow) error {
		part, err := decodeEvents(r.Events)
		if err != nil {
			return fmt.Errorf("history record %d: %w", r.LSN, err)
		}
		events = append(events, part...)
		bytes += len(r.Events) * residentFactor
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return backend.NewOrchestrationRuntimeState(api.InstanceID(row.ID), events), bytes, nil
}

// metadataOf is what clients see of a row. What cannot be read of it does not
// hide the rest: it says so in its place.
func metadataOf(row *store.Instance) *api.OrchestrationMetadata {
	m, err := decodeRow(row)
	if err != nil {
		m.Stalled = strings.TrimPrefix(m.Stalled+"; "+err.Error(), "; ")
	}
	return m
}

// decodeRow gives what can be read of a row, and what cannot; store.ErrCorrupt.
func decodeRow(row *store.Instance) (*api.OrchestrationMetadata, error) {
	m := api.NewOrchestrationMetadata(api.InstanceID(row.ID), row.Name, protos.OrchestrationStatus(row.Status),
		time.Unix(0, row.CreatedAt).UTC(), timeOf(row.UpdatedAt), deref(row.Input), deref(row.Output), deref(row.CustomStatus), nil)
	m.Version, m.ExecutionID, m.ParentInstanceID = deref(row.Version), row.ExecutionID, api.InstanceID(row.ParentID)
	if m.LastUpdatedAt.Before(m.CreatedAt) { // it is coarser
		m.LastUpdatedAt = m.CreatedAt
	}
	m.CompletedAt, m.ScheduledStartAt, m.Stalled = timeOf(row.CompletedAt), timeOf(row.ScheduledAt), row.Stalled
	var errs []error
	if row.Failure != nil {
		m.FailureDetails = &protos.TaskFailureDetails{}
		if err := proto.Unmarshal(row.Failure, m.FailureDetails); err != nil {
			m.FailureDetails = nil
			errs = append(errs, fmt.Errorf("%w: its failure: %w", store.ErrCorrupt, err))
		}
	}
	if row.Tags != nil {
		if err := json.Unmarshal(row.Tags, &m.Tags); err != nil {
			m.Tags = nil
			errs = append(errs, fmt.Errorf("%w: its tags: %w", store.ErrCorrupt, err))
		}
	}
	return m, errors.Join(errs...)
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
