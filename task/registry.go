package task

import (
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/perdure/perdure/api"
)

// FallbackName is the name under which code for unknown names is registered.
const FallbackName = "*"

// Orchestrator is the code of an orchestration. It must do the same for the
// same history: no clock but CurrentTimeUtc, no random numbers but NewGuid, no
// goroutines, no I/O.
type Orchestrator func(ctx *OrchestrationContext) (any, error)

// Activity is one step of an orchestration; it may do anything, and runs at least once.
type Activity func(ctx ActivityContext) (any, error)

// TaskRegistry holds orchestrators, activities and entities by name. All methods may be
// called by many goroutines.
type TaskRegistry struct {
	mu            sync.RWMutex
	orchestrators map[string]Orchestrator
	activities    map[string]Activity
	entities      map[string]Entity // by lower-case name
}

// NewTaskRegistry makes an empty registry.
func NewTaskRegistry() *TaskRegistry {
	return &TaskRegistry{orchestrators: map[string]Orchestrator{}, activities: map[string]Activity{}, entities: map[string]Entity{}}
}

// AddOrchestrator registers an orchestrator under the name of its function.
func (r *TaskRegistry) AddOrchestrator(o Orchestrator) error {
	return r.AddOrchestratorN(functionName(reflect.ValueOf(o)), o)
}

// AddOrchestratorN registers an orchestrator under a name; "*" stands for all
// names that are not registered. A taken or empty name and a nil function are
// errors that wrap [api.ErrInvalidInput].
func (r *TaskRegistry) AddOrchestratorN(name string, o Orchestrator) error {
	return register(r, r.orchestrators, "orchestrator", name, o, o == nil)
}

// AddActivity registers an activity under the name of its function.
func (r *TaskRegistry) AddActivity(a Activity) error {
	return r.AddActivityN(functionName(reflect.ValueOf(a)), a)
}

// AddActivityN registers an activity under a name, as AddOrchestratorN does.
func (r *TaskRegistry) AddActivityN(name string, a Activity) error {
	return register(r, r.activities, "activity", name, a, a == nil)
}

// OrchestratorNames lists the registered names, in order.
func (r *TaskRegistry) OrchestratorNames() []string { return names(r, r.orchestrators) }

// ActivityNames lists the registered names, in order.
func (r *TaskRegistry) ActivityNames() []string { return names(r, r.activities) }

// EntityNames lists the registered names, in lower case and in order.
func (r *TaskRegistry) EntityNames() []string { return names(r, r.entities) }

func names[F any](r *TaskRegistry, of map[string]F) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(of))
}

func register[F any](r *TaskRegistry, into map[string]F, what, name string, f F, isNil bool) error {
	switch {
	case isNil:
		return fmt.Errorf("%w: %s %q is nil", api.ErrInvalidInput, what, name)
	case name == "":
		return fmt.Errorf("%w: %s name is empty", api.ErrInvalidInput, what)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := into[name]; taken {
		return fmt.Errorf("%w: %s named '%s' is already registered", api.ErrInvalidInput, what, name)
	}
	into[name] = f
	return nil
}

func (r *TaskRegistry) orchestrator(name string) (Orchestrator, bool) {
	return lookUp(r, r.orchestrators, name)
}

func (r *TaskRegistry) activity(name string) (Activity, bool) { return lookUp(r, r.activities, name) }

func lookUp[F any](r *TaskRegistry, in map[string]F, name string) (F, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f, ok := in[name]
	if !ok {
		f, ok = in[FallbackName]
	}
	return f, ok
}

// taskName is the name that a call means: a string, or a function by its name.
func taskName(what string, f any) (string, error) {
	if name, ok := f.(string); ok {
		if name == "" {
			return "", fmt.Errorf("%w: %s name is empty", api.ErrInvalidInput, what)
		}
		if !utf8.ValidString(name) {
			return "", fmt.Errorf("%s name %.100q: %w", what, name, errNotUTF8)
		}
		return name, nil
	}
	v := reflect.ValueOf(f)
	if !v.IsValid() || v.Kind() != reflect.Func {
		return "", fmt.Errorf("%w: %s must be a name or a function, not %T", api.ErrInvalidInput, what, f)
	}
	name := functionName(v)
	if name == "" {
		return "", fmt.Errorf("%w: %s is a nil %T", api.ErrInvalidInput, what, f)
	}
	return name, nil
}

// functionName is the part of a function's name after its last dot. Method
// values lose their "-fm", instances of generic functions their "[...]".
func functionName(v reflect.Value) string {
	if v.IsNil() {
		return ""
	}
	name := strings.TrimSuffix(runtime.FuncForPC(v.Pointer()).Name(), "[...]")
	name = strings.TrimSuffix(name[strings.LastIndexByte(name, '.')+1:], "-fm")
	return name
}
