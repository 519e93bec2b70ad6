package api

import (
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

func wireText(s string) *wrapperspb.StringValue {
	if s == "" {
		return nil
	}
	return wrapperspb.String(s)
}

// State is the metadata as the protocol has it, with payloads where they are asked for.
func (m *OrchestrationMetadata) State(payloads bool) *protos.OrchestrationState {
	s := &protos.OrchestrationState{
		InstanceId:              string(m.InstanceID),
		Name:                    m.Name,
		Version:                 wireText(m.Version),
		OrchestrationStatus:     m.RuntimeStatus,
		CreatedTimestamp:        timestamppb.New(m.CreatedAt),
		LastUpdatedTimestamp:    timestamppb.New(m.LastUpdatedAt),
		CompletedTimestamp:      wireTime(m.CompletedAt),
		ScheduledStartTimestamp: wireTime(m.ScheduledStartAt),
		FailureDetails:          m.FailureDetails,
		ExecutionId:             wireText(m.ExecutionID),
		ParentInstanceId:        wireText(string(m.ParentInstanceID)),
		Tags:                    m.Tags,
	}
	if payloads {
		s.Input, s.Output, s.CustomStatus = wireText(m.SerializedInput), wireText(m.SerializedOutput), wireText(m.SerializedCustomStatus)
	}
	return s
}

// Info is State with what the protocol has no field for.
func (m *OrchestrationMetadata) Info(payloads bool) *protos.InstanceInfo {
	return &protos.InstanceInfo{State: m.State(payloads), Stalled: m.Stalled}
}

// MetadataFromState is the inverse of State.
func MetadataFromState(s *protos.OrchestrationState) *OrchestrationMetadata {
	m := NewOrchestrationMetadata(
		InstanceID(s.GetInstanceId()), s.GetName(), s.GetOrchestrationStatus(),
		s.GetCreatedTimestamp().AsTime(), s.GetLastUpdatedTimestamp().AsTime(),
		s.GetInput().GetValue(), s.GetOutput().GetValue(), s.GetCustomStatus().GetValue(), s.GetFailureDetails())
	m.Version, m.ExecutionID = s.GetVersion().GetValue(), s.GetExecutionId().GetValue()
	m.ParentInstanceID, m.Tags = InstanceID(s.GetParentInstanceId().GetValue()), s.GetTags()
	m.CompletedAt, m.ScheduledStartAt = goTime(s.GetCompletedTimestamp()), goTime(s.GetScheduledStartTimestamp())
	return m
}

// MetadataFromInfo is the inverse of Info.
func MetadataFromInfo(i *protos.InstanceInfo) *OrchestrationMetadata {
	m := MetadataFromState(i.GetState())
	m.Stalled = i.GetStalled()
	return m
}

// Proto is the bundle as it goes over the wire and into files.
func (b *InstanceBundle) Proto() *protos.InstanceBundle {
	return &protos.InstanceBundle{
		Instance: b.Metadata.Info(true), ParentTaskId: b.ParentTaskID, ParentExecutionId: b.ParentExecutionID,
		History: b.History, Inbox: b.Inbox,
	}
}

// BundleFromProto is the inverse of Proto.
func BundleFromProto(p *protos.InstanceBundle) *InstanceBundle {
	return &InstanceBundle{
		Metadata: MetadataFromInfo(p.GetInstance()), ParentTaskID: p.GetParentTaskId(),
		ParentExecutionID: p.GetParentExecutionId(), History: p.GetHistory(), Inbox: p.GetInbox(),
	}
}
