//go:build !brokenstore

package faultstore

import "github.com/perdure/perdure/backend/internal/store"

// Broken says that this build breaks a rule on purpose; see the build tag brokenstore.
const Broken = false

func damage(b *store.Batch) *store.Batch { return b }
