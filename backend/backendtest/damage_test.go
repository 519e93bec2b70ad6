package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

// waitsWith waits for an event after an activity, with the input in its history.
func waitsWith(c *task.OrchestrationContext) (any, error) {
	var in, v string
	if err := errors.Join(c.GetInput(&in), c.CallActivity("echo", task.WithActivityInput(in)).Await(nil)); err != nil {
		return nil, err
	}
	c.SetCustomStatus("waits")
	err := c.WaitForSingleEvent("go", -1).Await(&v)
	return v, err
}

// TestVanishedFile: a file that was moved away takes nothing, for what SQLite
// writes to it then would be lost with the process.
func TestVanishedFile(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"", "-wal"} {
		for _, replaced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s replaced %v", suffix, replaced), func(t *testing.T) {
				t.Parallel()
				file := newFile(t)
				os1, as := orchestrators{"o": waitsWith, "other": other}, activities{"echo": echo}
				h := newHost(t, sqliteFile(file), os1, as)
				id := h.begin("o", api.WithInput("x"))
				h.waits(id)
				must(t, os.Rename(file+suffix, file+".away"))
				if replaced {
					data, err := os.ReadFile(file + ".away")
					must(t, errors.Join(err, os.WriteFile(file+suffix, data, 0o600)))
				}
				if err := health(h); !errors.Is(err, api.ErrUnavailable) { // before any work
					t.Errorf("health: %v", err)
				}
				_, err := h.ScheduleNewOrchestration(t.Context(), "other")
				if !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), file) {
					t.Errorf("start: %v", err)
				}
				if err := h.RaiseEvent(t.Context(), id, "go", "y"); !errors.Is(err, api.ErrUnavailable) {
					t.Errorf("raise: %v", err)
				}
				must(t, os.Rename(file+".away", file+suffix))
				eventually(t, 10*time.Second, "health again", func() bool { return health(h) == nil })
				h.raise(id, "go", "z")
				h.output(id, `"z"`)
				h.others()()
				h.stop()
				h = newHost(t, sqliteFile(file), os1, as)
				h.output(id, `"z"`)
			})
		}
	}
}

// TestDeletedLog: the log is gone for good, and its process still has what was acknowledged.
func TestDeletedLog(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	all, as := orchestrators{"o": waitsWith}, activities{"echo": echo}
	h := newHost(t, sqliteFile(file), all, as)
	id := h.begin("o", api.WithInput("x"))
	h.waits(id)
	must(t, os.Remove(file+"-wal"))
	if err := health(h); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("health: %v", err)
	}
	h.stop()
	h = newHost(t, sqliteFile(file), all, as)
	h.raise(id, "go", "z")
	h.output(id, `"z"`)
}

// smash overwrites the pages that hold the text, and returns how to mend them.
func smash(t *testing.T, file, text string) (mend func()) {
	t.Helper()
	const page = 4096
	data, err := os.ReadFile(file)
	must(t, err)
	was := bytes.Clone(data)
	n := 0
	for from := 0; ; n++ {
		at := bytes.Index(data[from:], []byte(text))
		if at < 0 {
			break
		}
		start := (from + at) / page * page
		copy(data[start:start+page], bytes.Repeat([]byte{0xff}, page))
		from = start + page
	}
	if n == 0 {
		t.Fatalf("no page holds %q", text)
	}
	must(t, os.WriteFile(file, data, 0o600))
	return func() { must(t, os.WriteFile(file, was, 0o600)) }
}

// TestCorruptPageOfAnInstance: the page that holds the history of one instance is garbage.
func TestCorruptPageOfAnInstance(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	all, as := orchestrators{"o": waitsWith, "other": other}, activities{"echo": echo}
	h := newHost(t, sqliteFile(file), all, as)
	const n = 60
	ids := make([]api.InstanceID, n)
	for i := range ids { // each history takes most of a page
		ids[i] = h.begin("o", api.WithInstanceID(api.InstanceID(fmt.Sprintf("i%02d", i))), api.WithInput(fmt.Sprintf("marker-%02d-", i)+strings.Repeat("x", 1000)))
		h.waits(ids[i])
	}
	h.stop()
	rowEdit(t, file, `UPDATE instances SET input = NULL; VACUUM`) // the marker stays in the history alone
	mend := smash(t, file, "marker-30-")
	h = newHost(t, sqliteFile(file), all, as)
	h.others()()
	bad := 0
	for i, id := range ids {
		err := h.RaiseEvent(t.Context(), id, "go", "y")
		if far := i < 25 || i > 35; err != nil && (far || !errors.Is(err, api.ErrCorrupt)) {
			t.Errorf("raise to %s: %v", id, err)
		}
	}
	for i, id := range ids {
		if i < 25 || i > 35 { // far from the damage
			h.output(id, `"y"`)
			continue
		}
		eventually(t, patience, fmt.Sprintf("%s is over or set aside", id), func() bool {
			m := h.fetch(id)
			return m.IsComplete() || m.Stalled != ""
		})
		if m := h.fetch(id); m.Stalled != "" {
			bad++
		} else if m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
			t.Errorf("%s: %v %v", id, m.RuntimeStatus, m.FailureDetails)
		}
	}
	if bad == 0 {
		t.Error("no instance was set aside")
	}
	if err := h.History(t.Context(), ids[30], func([]*backend.HistoryEvent) error { return nil }); !errors.Is(err, api.ErrCorrupt) {
		t.Errorf("history of the damaged instance: %v", err)
	}
	if err := health(h); err != nil {
		t.Errorf("health: %v, and new work is taken", err)
	}
	h.others()()
	h.stop()
	mend()
	h = newHost(t, sqliteFile(file), all, as)
	for _, id := range ids { // the file is that of before: all was acknowledged, and is there
		h.raise(id, "go", "y")
		h.output(id, `"y"`)
	}
}

// TestCorruptIndex: no instance can be found by its id, nor a new one be added.
func TestCorruptIndex(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	all, as := orchestrators{"o": waitsWith, "other": other}, activities{"echo": echo}
	h := newHost(t, sqliteFile(file), all, as)
	id := h.begin("o", api.WithInput("x"))
	h.waits(id)
	h.stop()
	root := number(t, file, `SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_instances_1'`)
	whole, err := os.ReadFile(file)
	must(t, err)
	broken := bytes.Clone(whole)
	copy(broken[(root-1)*4096:], bytes.Repeat([]byte{0xff}, 4096))
	must(t, os.WriteFile(file, broken, 0o600))
	h = newHost(t, sqliteFile(file), all, as)
	for range 3 {
		if _, err := h.ScheduleNewOrchestration(t.Context(), "other"); !errors.Is(err, api.ErrCorrupt) {
			t.Errorf("start: %v", err)
		}
	}
	if _, err := h.FetchOrchestrationMetadata(t.Context(), id); !errors.Is(err, api.ErrCorrupt) {
		t.Errorf("fetch: %v", err)
	}
	if err := health(h); !errors.Is(err, api.ErrCorrupt) {
		t.Errorf("health: %v", err)
	}
	h.stop()
	must(t, os.WriteFile(file, whole, 0o600))
	h = newHost(t, sqliteFile(file), all, as)
	if err := health(h); err != nil {
		t.Errorf("health of the mended file: %v", err)
	}
	h.raise(id, "go", "z")
	h.output(id, `"z"`)
}

// TestCorruptSchema: what cannot be opened is refused each time with the reason, and left as it is.
func TestCorruptSchema(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(file string) (from, to int){
		"header":     func(string) (int, int) { return 0, 16 },
		"first page": func(string) (int, int) { return 0, 4096 },
		"instances": func(file string) (int, int) {
			p := number(t, file, `SELECT rootpage FROM sqlite_schema WHERE name = 'instances'`)
			return (p - 1) * 4096, p * 4096
		},
		"history": func(file string) (int, int) {
			p := number(t, file, `SELECT rootpage FROM sqlite_schema WHERE name = 'history'`)
			return (p - 1) * 4096, p * 4096
		},
		"meta": func(file string) (int, int) {
			p := number(t, file, `SELECT rootpage FROM sqlite_schema WHERE name = 'meta'`)
			return (p - 1) * 4096, p * 4096
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := newFile(t)
			all, as := orchestrators{"o": waitsWith}, activities{"echo": echo}
			h := newHost(t, sqliteFile(file), all, as)
			id := h.begin("o", api.WithInput("x"))
			h.waits(id)
			h.stop()
			from, to := at(file)
			whole, err := os.ReadFile(file)
			must(t, err)
			broken := bytes.Clone(whole)
			copy(broken[from:to], bytes.Repeat([]byte{0xff}, to-from))
			must(t, os.WriteFile(file, broken, 0o600))
			be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), &recorder{})
			for range 2 {
				if err := be.CreateTaskHub(t.Context()); !errors.Is(err, api.ErrCorrupt) {
					t.Errorf("open: %v", err)
				}
			}
			must(t, os.WriteFile(file, whole, 0o600))
			h = newHost(t, sqliteFile(file), all, as)
			h.raise(id, "go", "z")
			h.output(id, `"z"`)
		})
	}
}

// TestCorruptRows: damage to any part of what is stored of one instance stops
// this instance at most, what is known of it can be read, and once it is mended it goes on.
func TestCorruptRows(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		damage, mend string
		goesOn       bool // in spite of the damage
	}{
		"history, garbage":         {`UPDATE history SET events = x'ffffffff' WHERE key = K`, "", false},
		"history, cut":             {`UPDATE history SET events = substr(events, 1, length(events) - 3) WHERE key = K`, "", false},
		"history, one turn of two": {`UPDATE history SET events = x'05ff' WHERE lsn = (SELECT max(lsn) FROM history WHERE key = K)`, "", false},
		"inbox":                    {`INSERT INTO inbox (seq, key, event) VALUES (1000000, K, x'ffffffff')`, `DELETE FROM inbox WHERE seq = 1000000`, false},
		"failure":                  {`UPDATE instances SET failure = x'ffffffff' WHERE key = K`, `UPDATE instances SET failure = NULL WHERE key = K`, true},
		"tags":                     {`UPDATE instances SET tags = x'ffffffff' WHERE key = K`, `UPDATE instances SET tags = NULL WHERE key = K`, true},
		"status":                   {`UPDATE instances SET status = 99 WHERE key = K`, `UPDATE instances SET status = 0 WHERE key = K`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := newFile(t)
			all, as := orchestrators{"o": waitsWith, "other": other}, activities{"echo": echo}
			h := newHost(t, sqliteFile(file), all, as)
			for _, id := range []api.InstanceID{"good", "bad"} {
				h.begin("o", api.WithInstanceID(id), api.WithInput("x"))
				h.waits(id)
			}
			h.stop()
			key := fmt.Sprint(number(t, file, `SELECT key FROM instances WHERE id = 'bad'`))
			backup := filepath.Join(t.TempDir(), "backup.db")
			rowEdit(t, file, `VACUUM INTO '`+backup+`'`)
			rowEdit(t, file, strings.ReplaceAll(tt.damage, "K", key))

			h = newHost(t, sqliteFile(file), all, as)
			h.others()()
			h.raise("good", "go", "y")
			h.output("good", `"y"`)
			if err := h.RaiseEvent(t.Context(), "bad", "go", "y"); err != nil {
				t.Logf("raise: %v", err)
			}
			if tt.goesOn {
				h.end("bad", patience)
			} else {
				eventually(t, 5*time.Second, "bad is set aside", func() bool { return h.fetch("bad").Stalled != "" })
			}
			p, err := h.Query(t.Context(), api.InstanceQuery{})
			if err != nil || len(p.Instances) < 12 {
				t.Errorf("query beside a damaged row: %v", err)
			}
			if err := health(h); err != nil {
				t.Errorf("health: %v", err)
			}
			if n := len(h.log.taken()); n > 10 {
				t.Errorf("%d lines of log: %q", n, h.log.taken()[:10])
			}
			h.stop()
			if tt.goesOn {
				return
			}
			mend := tt.mend
			if mend == "" {
				mend = `ATTACH '` + backup + `' AS b; DELETE FROM history WHERE key = K; INSERT INTO history SELECT * FROM b.history WHERE key = K`
			}
			rowEdit(t, file, strings.ReplaceAll(mend, "K", key))
			h = newHost(t, sqliteFile(file), all, as)
			h.raise("bad", "go", "z")
			if m := h.end("bad", patience); m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || m.Stalled != "" {
				t.Errorf("mended: %v %q %v", m.RuntimeStatus, m.Stalled, m.FailureDetails)
			}
		})
	}
}
