package backendtest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/faultstore"
	"github.com/perdure/perdure/task"
)

// Hub is one task hub of its own, empty at first, that a test opens.
type Hub struct {
	// Open returns a backend on the hub that is not open yet. Each call stands
	// for a new process: it returns a new value, and what an earlier one stored
	// is there. Only where Shared is set is it called before the one
	// before was stopped. See Volatile for a hub that cannot be opened anew.
	Open func(Settings) backend.Backend

	// Shared says that several backends may have the hub open at once.
	Shared bool

	// Far has the programs of the cases run elsewhere than in the backend's process: it
	// returns an executor that hands their work to a worker that has begun with this
	// code, and a client that is as far away. Nil: they run beside the backend.
	Far func(testing.TB, backend.Backend, backend.Logger, *task.TaskRegistry) (backend.Executor, backend.Client)

	// Messages counts the stored messages that no turn has consumed. Nil: the
	// tests do not look for messages that are left behind.
	Messages func(testing.TB) int

	// Damage does harm to the stored history of an instance while no backend
	// has the hub open. Nil: the tests that need it are skipped.
	Damage func(tb testing.TB, id api.InstanceID, how Damage)

	log *recorder
}

// NewHub returns a hub that lives until the test ends.
type NewHub func(testing.TB) Hub

// Settings are what a test wants of the backend that it opens. A backend that
// has no such setting leaves it aside.
type Settings struct {
	Logger backend.Logger
	// MaxResident is the memory in bytes for orchestrations that wait; 0 is the backend's default.
	MaxResident int
	// MaxPayload and MaxIDLength are the limits of a payload, in bytes, and of
	// an id that a caller gives, in characters; 0 is the default: 4 MiB and 100.
	MaxPayload, MaxIDLength int
	// LockTimeout is how long a work item is locked, where locks have a time; 0 is the default.
	LockTimeout time.Duration
	// Faults come between the backend and its database, where they are not nil: the
	// backend calls Faults.Commit around each transaction that writes.
	Faults *Faults
}

// Damage is a kind of harm that stored data may come to.
type Damage uint8

// The kinds of damage to the history of an instance.
const (
	UnreadableHistory = Damage(faultstore.Unreadable) // what is stored of it is garbage
	LostHistory       = Damage(faultstore.Lost)       // it is gone, with the messages; the instance is there
	HugeHistory       = Damage(faultstore.Huge)       // 90 MB or more are added to it
)

func (d Damage) String() string {
	return [...]string{"unreadable history", "lost history", "huge history"}[d]
}

func (h Hub) damage(t *testing.T, id api.InstanceID, how Damage) {
	t.Helper()
	if h.Damage == nil {
		t.Skipf("the hub offers no way to damage it: %v of %s", how, id)
	}
	h.Damage(t, id, how)
}

// Volatile makes an Open of a constructor of backends that keep everything in
// their memory: each call returns the same backend, with the settings of the first.
func Volatile(open func(Settings) backend.Backend) func(Settings) backend.Backend {
	var once sync.Once
	var be backend.Backend
	return func(s Settings) backend.Backend {
		once.Do(func() { be = open(s) })
		return be
	}
}

// Test is one test of the suite.
type Test struct {
	// Name is that of a subtest. Those of the named cases begin with C and a number.
	Name string
	run  func(*testing.T, NewHub)
}

// Run runs the test; it may open several hubs.
func (x Test) Run(t *testing.T, hubs NewHub) {
	t.Helper()
	x.run(t, func(tb testing.TB) Hub {
		h := hubs(tb)
		h.log = &recorder{}
		return h
	})
}

// Cases lists the tests of the cases that users met: whole programs, run by workers.
func Cases() []Test { return cases() }

// Contract lists the tests of the interfaces, method by method.
func Contract() []Test { return append(contract(), door()...) }

// Run runs all tests as parallel subtests of t.
func Run(t *testing.T, hubs NewHub) {
	t.Helper()
	RunTests(t, hubs, append(Contract(), Cases()...)...)
}

// RunTests runs these tests as parallel subtests of t.
func RunTests(t *testing.T, hubs NewHub, tests ...Test) {
	t.Helper()
	names := map[string]bool{}
	for _, x := range tests {
		if names[x.Name] {
			panic(fmt.Sprintf("two tests are called %s", x.Name))
		}
		names[x.Name] = true
		t.Run(x.Name, func(t *testing.T) {
			t.Parallel()
			x.Run(t, hubs)
		})
	}
}
