//go:build race

package server

const raceEnabled = true // the server is built as the test was
