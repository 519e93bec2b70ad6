package search_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/api/search"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func instance() *api.OrchestrationMetadata {
	m := api.NewOrchestrationMetadata("order-17", "Order", api.RUNTIME_STATUS_FAILED, now.Add(-2*time.Hour), now.Add(-time.Hour),
		`{"customer":{"id":42,"name":"Ada L"},"items":["tea","Milk"],"gift":true,"note":null}`, `17.5`, `paying now`,
		&protos.TaskFailureDetails{ErrorType: "Timeout", ErrorMessage: "bank is slow", InnerFailure: &protos.TaskFailureDetails{ErrorMessage: "dial tcp"}})
	m.Version, m.ParentInstanceID, m.CompletedAt = "v2", "cart-3", now.Add(-time.Hour)
	m.Tags = map[string]string{"team": "blue", "a.b": "c d"}
	return m
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"": true, "order": true, "17": true, "Order-": false, "-nothing": true, "-17": false, `"order-17"`: true,
		"id:order-*": true, "id:order": false, "id:*-1*": true, "id:x,order-17": true, "name:Order": true, "name:order": false,
		"status:failed": true, "status:FAILED": true, "status:running,failed": true, "status:running": false, "-status:running": true,
		"status:term*": false, "version:v2": true, "version:v*": true, "parent:cart-3": true, "parent:*": true,
		"error:timeout": true, "error:*SLOW": true, "error:*tcp*": true, "error:none": false,
		"tag.team:blue": true, "tag.team:green,blue": true, "tag.team:Blue": false, "tag.other:*": false, "-tag.other:*": true, `tag.a.b:"c d"`: true,
		"created>2026-01-31": true, "created<2026-01-31": false, "created<=2026-01-31T10:00:00Z": true, "created<2026-01-31T10:00:00Z": false,
		"completed>2026-01-31T10:30": true, "scheduled>2000-01-01": false, "-scheduled>2000-01-01": true,
		"age>1h": true, "age>3h": false, "age<1d": true, "idle>=1h": true, "idle>1h": false, "duration>59m": true, "duration<=1h": true,
		"input.customer.id:42": true, "input.customer.id:42.0": true, "input.customer.id>41": true, "input.customer.id<42": false,
		`input.customer.name:"ada l"`: true, "input.customer.name:ada*": true, "input.items.0:tea": true, "input.items.1:milk": true,
		"input.items.2:tea": false, "input.gift:true": true, "input.note:null": true, "input.none.x:1": false, "input.customer:*ada*": true,
		"input:*tea*": true, "output:17.5": true, "output>17": true, "custom:*paying*": true, "custom>1": false, "stalled:*": false,
		"status:failed name:Order -error:x input.gift:true": true, "status:failed name:Other": false,
	} {
		q, err := search.Parse(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if got := q.Match(instance(), now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
		if want { // what narrows the query must not lose it
			var n api.InstanceQuery
			q.Narrow(&n, now)
			m := instance()
			if !strings.HasPrefix(string(m.InstanceID), n.IDPrefix) || n.Name != "" && n.Name != m.Name || n.ParentID != "" && n.ParentID != m.ParentInstanceID ||
				m.CreatedAt.Before(n.CreatedFrom) || !n.CreatedTo.IsZero() && m.CreatedAt.After(n.CreatedTo) ||
				len(n.Statuses) > 0 && !has(n.Statuses, m.RuntimeStatus) {
				t.Errorf("%q is narrowed to %+v", s, n)
			}
		}
	}
	stalled := instance()
	stalled.RuntimeStatus, stalled.Stalled = api.RUNTIME_STATUS_RUNNING, "bad record"
	for _, s := range []string{"status:stalled", "status:running", "stalled:*bad*", "status:stalled,failed"} {
		if q, err := search.Parse(s); err != nil || !q.Match(stalled, now) {
			t.Errorf("%q does not find what is set aside: %v", s, err)
		}
	}
}

func has(all []api.OrchestrationStatus, s api.OrchestrationStatus) bool {
	for _, v := range all {
		if v == s {
			return true
		}
	}
	return false
}

func TestNarrow(t *testing.T) {
	t.Parallel()
	q, err := search.Parse("status:failed,running name:Order id:order-* age<1h parent:p")
	if err != nil {
		t.Fatal(err)
	}
	var n api.InstanceQuery
	q.Narrow(&n, now)
	if len(n.Statuses) != 2 || n.Name != "Order" || n.IDPrefix != "order-" || !n.CreatedFrom.Equal(now.Add(-time.Hour)) || n.ParentID != "p" || q.NeedsPayloads() {
		t.Errorf("%+v", n)
	}
}

func TestWrongSearchesSayWhere(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"colour:red": "at character 1: there is no field \"colour\"", "a status:": "at character 10: want a value", "status:odd": "at character 8: there is no status",
		"name>5": "at character 5: name has no order", "created:2026-01-01": "at character 9: a time has no equal", "age>soon": "at character 5: \"soon\" is no duration",
		"created>soon": "at character 9: \"soon\" is no time", `name:"x`: "at character 6: the quotes do not end", "input.a..b:1": "at character 1: a part of",
		"output.x>big": "at character 10: \"big\" is no number", "name.x:1": "the field name has no parts", "tag:x": "want tag.KEY", "age>1h,2h": "at character 7: > takes one value",
		"-": "at character 2: a minus before nothing", `na"me:x`: "a quote in the middle", "input.:x": "a part of", ",": "at character 1: want a word", "a,b": "at character 2: want a word", "name:a,": "at character 8: want a value",
	} {
		if _, err := search.Parse(s); !errors.Is(err, api.ErrInvalidInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

func FuzzSearch(f *testing.F) {
	for _, s := range []string{"status:failed name:order* age<1d", `-error:*x* input.a.0>1 "two words"`, "tag.a:b,c", `id:"`, "a:b:c", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := search.Parse(s)
		if err != nil {
			if !errors.Is(err, api.ErrInvalidInput) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		m := instance()
		matches := q.Match(m, now)
		var n api.InstanceQuery
		q.Narrow(&n, now)
		if matches && (!strings.HasPrefix(string(m.InstanceID), n.IDPrefix) || n.Name != "" && n.Name != m.Name) {
			t.Errorf("%q loses what it matches: %+v", s, n)
		}
	})
}
