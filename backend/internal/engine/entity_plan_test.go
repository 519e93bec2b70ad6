package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// mailbox makes an entity of a script: "s" a signal, "cX" a call of X, "LX"
// its lock request, "uX" its unlock, "UX" its unlock that follows the request.
func mailbox(t *testing.T, script string) *instance {
	t.Helper()
	i := &instance{id: "@e@k", ent: newEntity("@e@k")}
	for n, word := range strings.Fields(script) {
		owner := word[1:]
		id := fmt.Sprintf("%s#%d", word, n)
		ev := &backend.HistoryEvent{}
		switch word[0] {
		case 's':
			ev.EventType = &protos.HistoryEvent_EntityOperationSignaled{EntityOperationSignaled: &protos.EntityOperationSignaledEvent{RequestId: id}}
		case 'c':
			ev.EventType = &protos.HistoryEvent_EntityOperationCalled{EntityOperationCalled: &protos.EntityOperationCalledEvent{
				RequestId: id, ParentInstanceId: wrapperspb.String(owner),
			}}
		case 'L':
			ev = backend.NewEntityLockRequest("cs"+owner, owner, []string{"@e@k", "@e@next"}, 0, nil)
		case 'u':
			ev = backend.NewEntityUnlock("cs"+owner, owner, "@e@k", nil)
		case 'U':
			ev = backend.NewEntityUnlock("cs"+owner, owner, "", nil)
		default:
			t.Fatalf("script: %s", word)
		}
		i.push(&message{event: ev}, math.MaxInt64)
	}
	return i
}

func words(msgs []*message) string {
	var s []string
	for _, m := range msgs {
		switch t := m.event.GetEventType().(type) {
		case *protos.HistoryEvent_EntityOperationSignaled:
			s = append(s, t.EntityOperationSignaled.GetRequestId())
		case *protos.HistoryEvent_EntityOperationCalled:
			s = append(s, t.EntityOperationCalled.GetRequestId())
		case *protos.HistoryEvent_EntityLockRequested:
			s = append(s, "L"+t.EntityLockRequested.GetParentInstanceId().GetValue())
		case *protos.HistoryEvent_EntityUnlockSent:
			s = append(s, "u"+t.EntityUnlockSent.GetParentInstanceId().GetValue())
		}
	}
	return strings.Join(s, " ")
}

// carry does what the commit of a plan does.
func (i *instance) carry(p entityPlan) {
	gone := map[*message]bool{}
	for _, m := range p.drawn {
		gone[m] = true
	}
	i.remove(gone)
	i.ent.lock = p.lock
}

func TestEntityPlan(t *testing.T) {
	for _, tt := range []struct {
		script   string
		max      int
		ops      string
		owner    string // who has the lock then
		left     string
		messages int
	}{
		{"s cA s", 9, "s#0 cA#1 s#2", "", "", 0},
		{"s cA s", 2, "s#0 cA#1", "", "s#2", 0},
		{"s LA s cB cA", 9, "s#0 cA#4", "A", "s#2 cB#3", 1},
		{"LA s cB cA uA", 9, "cA#3 s#1 cB#2", "", "", 1},
		{"LA s LB cA uA cB s", 9, "cA#3 s#1 cB#5", "B", "s#6", 2},
		{"LA s LB cA uA cB s", 1, "cA#3", "", "s#1 LB cB#5 s#6", 1},
		{"LA LB LC UB s", 9, "", "A", "LC s#4", 1},
		{"LA LB UA uB s", 9, "s#4", "", "", 3},
		{"uZ UZ s", 9, "s#2", "", "", 0},
		{"LA s s", 0, "", "A", "s#1 s#2", 1},
		{"s LA", 0, "", "", "s#0 LA", 0},
	} {
		i := mailbox(t, tt.script)
		p := i.ent.plan(i.inbox, tt.max, math.MaxInt, timestamppb.Now())
		i.carry(p)
		owner := ""
		if p.lock != nil {
			owner = p.lock.Owner
		}
		if words(p.ops) != tt.ops || owner != tt.owner || words(i.inbox) != tt.left || len(p.out) != tt.messages {
			t.Errorf("%q, %d at most: runs %q, locked by %q, leaves %q, sends %d\nwant %q, %q, %q, %d", tt.script, tt.max,
				words(p.ops), owner, words(i.inbox), len(p.out), tt.ops, tt.owner, tt.left, tt.messages)
		}
		if runs, op := i.runnable(); runs && (!op || tt.max == 9) {
			t.Errorf("%q: %q is left and may run (%v)", tt.script, words(i.inbox), op)
		}
	}
}

// TestEntityPlanInAnyPortion compares batches of any size with one operation at
// a time, for random mailboxes.
func TestEntityPlanInAnyPortion(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		var script []string
		for range r.IntN(30) {
			who := string(rune('A' + r.IntN(3)))
			script = append(script, []string{"s", "s", "c" + who, "L" + who, "u" + who, "U" + who}[r.IntN(6)])
		}
		var seen [3]string
		for n, limit := range []int{1, 3, 1000} {
			i := mailbox(t, strings.Join(script, " "))
			var all []string
			for {
				runs, op := i.runnable()
				if !runs {
					break
				}
				p := i.ent.plan(i.inbox, limit, math.MaxInt, nil)
				if len(p.drawn) == 0 || (op && len(p.ops) == 0) || len(p.ops) > limit {
					t.Fatalf("%v: something may run (an operation: %v), and the plan is %q of %q", script, op, words(p.drawn), words(i.inbox))
				}
				all = append(all, words(p.drawn))
				i.carry(p)
			}
			all = append(all, "left", words(i.inbox), fmt.Sprintf("%+v", i.ent.lock))
			all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
			seen[n] = strings.Join(all, " ")
		}
		if seen[0] != seen[1] || seen[0] != seen[2] {
			t.Fatalf("%v:\n%s\n%s\n%s", script, seen[0], seen[1], seen[2])
		}
	}
}
