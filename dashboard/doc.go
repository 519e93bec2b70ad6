// Package dashboard shows a task hub to people, and lets them act on it: the
// list of instances, one instance with its verdict, timeline, history and
// family, entities, and the workers that are connected.
//
// It is an http.Handler to be mounted anywhere. Pages are made on the server
// and work without scripts; all assets are in the binary. It reads the hub
// through backend.Client and the optional interfaces, keeps no state of its own
// and starts no goroutine.
//
// Requests that change something are refused when they come from another
// site; pages cannot be framed, and load nothing from elsewhere. It asks
// nobody for a password: whoever mounts it decides who may reach it.
package dashboard
