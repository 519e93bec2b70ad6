// Package api holds the nouns, options and sentinel errors that clients,
// workers and authors share. It knows the wire types of package protos and
// nothing else of Perdure.
package api
