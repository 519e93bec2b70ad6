package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/dashboard"
)

func TestSearch(t *testing.T) {
	s := newSite(t, dashboard.Options{})
	s.start("waits", api.WithInstanceID("tea"), api.WithInput(map[string]int{"n": 1}))
	s.start("waits", api.WithInstanceID("milk"), api.WithInput(map[string]int{"n": 2}))
	page := s.get("/", "q", "input.n>1")
	s.wants(page, ">milk<", `value="input.n&gt;1"`)
	if strings.Contains(page, ">tea<") {
		t.Error("the search finds what it does not mean")
	}
	s.wants(s.get("/counts.json", "q", "input.n>1"), `"total":1`)
	code, body := s.try("/", "q", "colour:red")
	if code != http.StatusBadRequest {
		t.Errorf("a wrong search: %d", code)
	}
	s.wants(body, "at character 1", "there is no field")
}
