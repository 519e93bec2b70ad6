package task

import (
	"fmt"
	"sort"

	"github.com/perdure/perdure/api/protos"
)

// actionKind is what an action does, and what its confirming event must say.
type actionKind string

const (
	kindActivity actionKind = "activity"
	kindChild    actionKind = "sub-orchestration"
	kindTimer    actionKind = "timer"
	kindSend     actionKind = "sent event"
	kindComplete actionKind = "completion"

	kindEntityCall   actionKind = "entity call"
	kindEntitySignal actionKind = "entity signal"
	kindLock         actionKind = "lock request"
	kindUnlock       actionKind = "unlock"
)

// action is one decision of the code, and how history must name it.
type action struct {
	*protos.OrchestratorAction
	kind      actionKind
	name      string
	confirmed bool
}

func (a *action) String() string { return describe(a.kind, a.name, a.GetId()) }

func describe(kind actionKind, name string, id int32) string {
	if name == "" {
		return fmt.Sprintf("%s #%d", kind, id)
	}
	return fmt.Sprintf("%s %q #%d", kind, name, id)
}

// journal holds the actions that history has not confirmed, in id order.
type journal struct {
	next int32
	list []*action
	open int // unconfirmed ones of list
}

// add gives the action the next id.
func (j *journal) add(kind actionKind, name string, a *protos.OrchestratorAction) *action {
	if a == nil {
		a = &protos.OrchestratorAction{}
	}
	a.Id = j.next
	j.next++
	j.open++
	added := &action{OrchestratorAction: a, kind: kind, name: name}
	j.list = append(j.list, added)
	return added
}

// find returns the unconfirmed action with the id, or nil.
func (j *journal) find(id int32) *action {
	i := sort.Search(len(j.list), func(i int) bool { return j.list[i].GetId() >= id })
	if i == len(j.list) || j.list[i].GetId() != id || j.list[i].confirmed {
		return nil
	}
	return j.list[i]
}

func (j *journal) confirm(a *action) {
	a.confirmed = true
	j.open--
	if j.open == 0 {
		j.clear()
	}
}

// first returns the first unconfirmed action, or nil.
func (j *journal) first() *action {
	for _, a := range j.list {
		if !a.confirmed {
			return a
		}
	}
	return nil
}

// actions are the unconfirmed ones, in id order.
func (j *journal) actions() []*protos.OrchestratorAction {
	all := make([]*protos.OrchestratorAction, 0, j.open)
	for _, a := range j.list {
		if !a.confirmed {
			all = append(all, a.OrchestratorAction)
		}
	}
	return all
}

// clear forgets all actions: they are recorded, or will never be.
func (j *journal) clear() { j.list, j.open = nil, 0 }
