//go:build !brokenrule

package engine

// keepsConsumed breaks, when it is true, the rule that a turn and what it
// consumed commit together; see the build tag brokenrule.
const keepsConsumed = false
