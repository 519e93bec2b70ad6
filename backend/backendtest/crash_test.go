package backendtest

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/backend"
)

var kills = flag.Int("kills", 20, "TestCrash: how often the child process is killed")

func TestCrash(t *testing.T) {
	RunCrash(t, *kills, func(dir string, s Settings) backend.Backend { return openSqlite(filepath.Join(dir, "hub.db"), s) })
}
