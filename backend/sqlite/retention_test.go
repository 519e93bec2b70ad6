package sqlite_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

func TestRetention(t *testing.T) {
	log := backend.NewLogger(slog.New(slog.DiscardHandler))
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(""), log)
	if err := be.CreateTaskHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := be.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	put := func(id, name, parent string, status api.OrchestrationStatus, age time.Duration) {
		t.Helper()
		at := time.Now().Add(-age)
		m := api.NewOrchestrationMetadata(api.InstanceID(id), name, status, at, at, "", "", "", nil)
		m.CompletedAt, m.ParentInstanceID = at, api.InstanceID(parent)
		if err := be.(backend.InstanceImporter).ImportInstance(t.Context(), &api.InstanceBundle{Metadata: m}); err != nil {
			t.Fatal(err)
		}
	}
	const day = 24 * time.Hour
	put("old", "o", "", api.RUNTIME_STATUS_COMPLETED, 8*day)
	put("old-child", "c", "old", api.RUNTIME_STATUS_COMPLETED, 8*day)
	put("young", "o", "", api.RUNTIME_STATUS_COMPLETED, 6*day)
	put("young-child", "c", "young", api.RUNTIME_STATUS_COMPLETED, 20*day)
	put("failed", "o", "", api.RUNTIME_STATUS_FAILED, 20*day)
	put("ancient", "o", "", api.RUNTIME_STATUS_FAILED, 40*day)
	put("kept", "audit", "", api.RUNTIME_STATUS_COMPLETED, 60*day)
	put("orphan", "c", "nobody", api.RUNTIME_STATUS_TERMINATED, 40*day)
	for n := range 250 {
		put("many-"+string(rune('a'+n/26))+string(rune('a'+n%26)), "o", "", api.RUNTIME_STATUS_COMPLETED, 9*day)
	}
	if _, err := backend.NewClient(be).ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID("pending")); err != nil {
		t.Fatal(err)
	}
	var rules []backend.RetentionRule
	for _, s := range []string{"all@audit=365d", "completed=7d", "all=720h"} {
		r, err := backend.ParseRetentionRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	r, err := backend.NewRetention(be, rules, log)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.Pass(t.Context()); err != nil || n != 254 {
		t.Errorf("deleted %d, %v, want 254", n, err)
	}
	page, err := backend.NewClient(be).Query(t.Context(), api.InstanceQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var left []api.InstanceID
	for _, m := range page.Instances {
		left = append(left, m.InstanceID)
	}
	if want := []api.InstanceID{"young", "young-child", "failed", "kept", "pending"}; len(left) != len(want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if n, err := r.Pass(t.Context()); err != nil || n != 0 {
		t.Errorf("a second pass deleted %d, %v", n, err)
	}
}

func TestRetentionRules(t *testing.T) {
	for s, want := range map[string]backend.RetentionRule{
		"completed=7d":            {Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED}, Keep: 168 * time.Hour},
		"Failed,terminated@o=12h": {Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED}, Name: "o", Keep: 12 * time.Hour},
		"all=0s":                  {},
	} {
		if got, err := backend.ParseRetentionRule(s); err != nil || got.Keep != want.Keep || got.Name != want.Name || len(got.Statuses) != len(want.Statuses) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "7d", "running=1d", "odd=1d", "completed=soon", "completed=-1h", "=1d"} {
		if _, err := backend.ParseRetentionRule(s); !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
