package api

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api/protos"
)

func wireTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func goTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Proto is the verdict as it goes over the wire.
func (v *Verdict) Proto() *protos.Verdict {
	p := &protos.Verdict{
		InstanceId: string(v.InstanceID), Status: v.Status, Reason: string(v.Reason), Summary: v.Summary,
		Since: wireTime(v.Since), Until: wireTime(v.Until), More: int32(v.More),
	}
	for _, w := range v.Waits {
		p.Waits = append(p.Waits, &protos.Wait{
			Reason: string(w.Reason), Name: w.Name, Version: w.Version, TaskId: w.TaskID,
			Since: wireTime(w.Since), Until: wireTime(w.Until), Attempt: int32(w.Attempt), MaxAttempts: int32(w.MaxAttempts),
			InstanceId: string(w.InstanceID), Worker: w.Worker, Detail: w.Detail, Summary: w.Summary,
		})
	}
	return p
}

// VerdictFromProto is the inverse of Proto.
func VerdictFromProto(p *protos.Verdict) *Verdict {
	v := &Verdict{
		InstanceID: InstanceID(p.GetInstanceId()), Status: p.GetStatus(), Reason: WaitReason(p.GetReason()),
		Summary: p.GetSummary(), Since: goTime(p.GetSince()), Until: goTime(p.GetUntil()), More: int(p.GetMore()),
	}
	for _, w := range p.GetWaits() {
		v.Waits = append(v.Waits, Wait{
			Reason: WaitReason(w.GetReason()), Name: w.GetName(), Version: w.GetVersion(), TaskID: w.GetTaskId(),
			Since: goTime(w.GetSince()), Until: goTime(w.GetUntil()), Attempt: int(w.GetAttempt()), MaxAttempts: int(w.GetMaxAttempts()),
			InstanceID: InstanceID(w.GetInstanceId()), Worker: w.GetWorker(), Detail: w.GetDetail(), Summary: w.GetSummary(),
		})
	}
	return v
}

// Proto is the worker as it goes over the wire.
func (w *Worker) Proto() *protos.Worker {
	p := &protos.Worker{
		Id: w.ID, Name: w.Name, Address: w.Address, Agent: w.Agent, ConnectedAt: wireTime(w.ConnectedAt),
		Draining: w.Draining, Late: int32(w.Late), Orchestrations: w.Orchestrations.proto(),
		Activities: w.Activities.proto(), Entities: w.Entities.proto(),
	}
	for _, i := range w.Items {
		p.Items = append(p.Items, &protos.WorkerItem{
			Kind: i.Kind, InstanceId: string(i.InstanceID), TaskId: i.TaskID, Name: i.Name, Since: wireTime(i.Since),
		})
	}
	return p
}

func (s WorkerSlots) proto() *protos.WorkerSlots {
	p := &protos.WorkerSlots{Limit: int32(s.Limit), Running: int32(s.Running), All: s.All}
	for name, versions := range s.Hosts {
		if p.Hosts == nil {
			p.Hosts = map[string]*protos.HostedVersions{}
		}
		p.Hosts[name] = &protos.HostedVersions{Versions: versions}
	}
	return p
}

// WorkerFromProto is the inverse of Proto.
func WorkerFromProto(p *protos.Worker) Worker {
	w := Worker{
		ID: p.GetId(), Name: p.GetName(), Address: p.GetAddress(), Agent: p.GetAgent(), ConnectedAt: goTime(p.GetConnectedAt()),
		Draining: p.GetDraining(), Late: int(p.GetLate()), Orchestrations: slotsFromProto(p.GetOrchestrations()),
		Activities: slotsFromProto(p.GetActivities()), Entities: slotsFromProto(p.GetEntities()),
	}
	for _, i := range p.GetItems() {
		w.Items = append(w.Items, WorkerItem{
			Kind: i.GetKind(), InstanceID: InstanceID(i.GetInstanceId()), TaskID: i.GetTaskId(), Name: i.GetName(), Since: goTime(i.GetSince()),
		})
	}
	return w
}

func slotsFromProto(p *protos.WorkerSlots) WorkerSlots {
	s := WorkerSlots{Limit: int(p.GetLimit()), Running: int(p.GetRunning()), All: p.GetAll()}
	for name, v := range p.GetHosts() {
		if s.Hosts == nil {
			s.Hosts = map[string][]string{}
		}
		s.Hosts[name] = v.GetVersions()
	}
	return s
}
