//go:build brokenstore

package faultstore

import "github.com/perdure/perdure/backend/internal/store"

// Broken is true in builds that must fail the simulation.
const Broken = true

// damage acknowledges a batch whose inbox records are dropped.
func damage(b *store.Batch) *store.Batch {
	less := *b
	less.Inbox = nil
	return &less
}
