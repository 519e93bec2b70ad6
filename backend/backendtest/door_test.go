package backendtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

// TestErrorsOfOpening lists why a task hub may not open.
func TestErrorsOfOpening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held := filepath.Join(dir, "held.db")
	idleHost(t, sqliteFile(held))
	newer := filepath.Join(dir, "newer.db")
	idleHost(t, sqliteFile(newer)).stop()
	rowEdit(t, newer, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
	garbage := filepath.Join(dir, "garbage.db")
	must(t, os.WriteFile(garbage, []byte(strings.Repeat("no database ", 1000)), 0o600))
	for name, tt := range map[string]struct {
		file string
		want error
		says string
	}{
		"held by another": {held, api.ErrTaskHubLocked, "process"},
		"newer schema":    {newer, api.ErrSchemaTooNew, "999"},
		"no database":     {garbage, api.ErrCorrupt, garbage},
		"a folder":        {dir, api.ErrUnavailable, dir},
		"no folder":       {filepath.Join(dir, "none", "hub.db"), api.ErrUnavailable, "none"},
	} {
		for _, open := range []func(backend.Backend) error{
			func(be backend.Backend) error { return be.CreateTaskHub(t.Context()) },
			func(be backend.Backend) error { return be.Start(t.Context()) },
		} {
			err := open(sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(tt.file), &recorder{}))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %v that says %q", name, err, tt.want, tt.says)
			}
		}
	}
}

// TestIDLimits: ids have up to 100 characters, by an option up to 1,024 bytes.
func TestIDLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		option    int
		good, bad []string
	}{
		"default": {0,
			[]string{strings.Repeat("a", 100), strings.Repeat("🎉", 100)},
			[]string{strings.Repeat("a", 101), strings.Repeat("🎉", 101)},
		},
		"raised": {1024,
			[]string{strings.Repeat("a", 1024), strings.Repeat("🎉", 256)},
			[]string{strings.Repeat("a", 1025), strings.Repeat("🎉", 256) + "a"},
		},
		"raised too far": {1 << 20, []string{strings.Repeat("a", 1024)}, []string{strings.Repeat("a", 1025)}},
		"lowered":        {5, []string{"12345", "日本日本日"}, []string{"123456"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, newSqliteFile(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
				return nil, c.CallSubOrchestrator("short").Await(nil) // its id is made by the engine
			}, "short": func(*task.OrchestrationContext) (any, error) { return nil, nil }}, nil, limits(0, tt.option))
			for _, id := range tt.good {
				h.begin("o", api.WithInstanceID(api.InstanceID(id)))
				h.output(api.InstanceID(id), "")
			}
			before := h.stored()
			for _, id := range tt.bad {
				_, err := h.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID(api.InstanceID(id)))
				if !errors.Is(err, api.ErrInvalidInstanceID) || len(err.Error()) > 900 {
					t.Errorf("%d bytes: %v", len(id), err)
				}
			}
			if n := h.stored(); n != before {
				t.Errorf("%d instances were stored by refused starts", n-before)
			}
		})
	}
}
