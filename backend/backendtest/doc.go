// Package backendtest tests a backend: the rules of the [backend.Backend]
// interface and of its optional companions, and the named cases that users of
// such engines met. A backend is bound to it in a few lines:
//
//	func TestConformance(t *testing.T) {
//		backendtest.Run(t, func(tb testing.TB) backendtest.Hub {
//			path := filepath.Join(tb.TempDir(), "hub.db")
//			return backendtest.Hub{Open: func(s backendtest.Settings) backend.Backend {
//				return mybackend.New(path, s.Logger)
//			}}
//		})
//	}
//
// An optional interface is tested where the backend has it. What a backend
// cannot offer at all, such as faults injected around its commits, is skipped with
// the reason.
//
// [NewModel] is a backend in memory that holds all the rules, to compare
// with and to test programs on. [Faults] come between a backend and its
// database. [RunCrash] kills a process that uses the backend, again and again.
// [RunBenchmarks] measures.
//
// The package knows the authoring API of package task, and no database.
package backendtest
