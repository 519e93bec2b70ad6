//go:build brokenrule

package engine_test

import (
	"testing"
	"testing/synctest"
)

// TestSimulationCatchesBrokenEngine runs against an engine with one broken rule.
func TestSimulationCatchesBrokenEngine(t *testing.T) {
	for seed := range uint64(200) {
		var err error
		synctest.Test(t, func(t *testing.T) { err = simulate(t, seed, false) })
		if err != nil {
			t.Logf("caught by seed %d: %v", seed, err)
			return
		}
	}
	t.Error("the broken rule went unnoticed")
}
