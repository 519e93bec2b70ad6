package dashboard_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/dashboard"
)

func TestCounts(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	s.start("waits")
	s.start("waits")
	var got struct {
		Counts map[string]int
		Total  int
	}
	if err := json.Unmarshal([]byte(s.get("/counts.json", "name", "waits")), &got); err != nil || got.Total != 2 || got.Counts["RUNNING"] != 2 {
		t.Errorf("counts: %+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(s.get("/counts.json", "name", "nobody's")), &got); err != nil || got.Total != 0 {
		t.Errorf("counts of nothing: %+v, %v", got, err)
	}
	if code, _ := s.try("/counts.json", "status", "odd"); code != http.StatusBadRequest {
		t.Errorf("an unknown status: %d", code)
	}
	s.wants(s.get("/"), `data-src="/counts.json"`, `data-count="RUNNING"`)
}

func TestBulkForAllThatMatch(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	for _, id := range []string{"a1", "a2", "b1"} {
		s.start("waits", api.WithInstanceID(api.InstanceID(id)))
	}
	s.wants(s.get("/", "prefix", "a"), `type="hidden" name="prefix" value="a"`, "Preview for all that match")
	code, body := s.post("/bulk", nil, "all", "1", "prefix", "a", "verb", "terminate")
	if code != http.StatusOK {
		t.Errorf("%d", code)
	}
	s.wants(body, "terminate 2 instances?", `name="id" value="a1"`, `name="id" value="a2"`)
	if strings.Contains(body, "b1") {
		t.Error("it is about more than what matches")
	}
	if code, _ := s.post("/bulk", nil, "all", "1", "q", "colour:red", "verb", "terminate"); code != http.StatusBadRequest {
		t.Errorf("a wrong search: %d", code)
	}
	if code, _ := s.post("/bulk", nil, "all", "1", "prefix", "z", "verb", "terminate"); code != http.StatusBadRequest {
		t.Errorf("nothing matches: %d", code)
	}
}
