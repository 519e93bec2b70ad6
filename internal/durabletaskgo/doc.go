// Package durabletaskgo reads the task hubs of durabletask-go 0.2 to 0.6, in
// SQLite files and in PostgreSQL, so that their instances can go on in a task
// hub of Perdure. It changes nothing in them.
//
// What it makes of their rows:
//
//	Instances  the metadata of a bundle
//	History    its history, as it is: replay goes on from it
//	NewEvents  its inbox, without fired timers: an open timer is in the history
//	NewTasks   nothing: an open activity is in the history
//
// The events of instances that are over, and of ids without an instance, are left
// behind; nothing would ever read them.
package durabletaskgo
