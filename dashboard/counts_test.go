package dashboard_test

import (
	"encoding/json"
	"net/http"
	"testing"

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
