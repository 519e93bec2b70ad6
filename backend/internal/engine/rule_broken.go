//go:build brokenrule

package engine

// keepsConsumed is true in builds that must fail the simulation: messages are
// delivered again after a crash.
const keepsConsumed = true
