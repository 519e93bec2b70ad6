//go:build race

package sdk_test

const raceEnabled = true // the server is built as the test was
