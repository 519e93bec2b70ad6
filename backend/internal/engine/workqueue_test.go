package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWorkQueue compares it with a plain list: what it hands out is always the
// oldest that is wanted.
func TestWorkQueue(t *testing.T) {
	t.Parallel()
	type item struct {
		name string
		n    int
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var q workQueue[int]
	var model []item
	names := []string{"a", "b", "c", "d"}
	for n := range 20000 {
		if rng.IntN(2) == 0 {
			name := names[rng.IntN(len(names))]
			if n%5000 < 100 { // many keys, once in a while
				name = string(rune('k' + n%100))
			}
			q.push(workKey{name: name}, n)
			model = append(model, item{name, n})
			continue
		}
		var want wants
		if rng.IntN(3) > 0 {
			a, b := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
			want = func(name, _ string) bool { return name == a || name == b }
		}
		i := slices.IndexFunc(model, func(m item) bool { return want == nil || want(m.name, "") })
		got, ok := q.pop(want)
		if ok != (i >= 0) || ok && got != model[i].n {
			t.Fatalf("step %d: got %d, %v, want index %d of %v", n, got, ok, i, model)
		}
		if ok {
			model = slices.Delete(model, i, i+1)
		}
	}
}
