package search

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// NeedsPayloads reports whether Match looks at payloads.
func (s *Search) NeedsPayloads() bool {
	for _, t := range s.terms {
		if fields[t.field] == payload {
			return true
		}
	}
	return false
}

// Narrow puts into a query what a store can select by itself: no instance that
// Match accepts is lost by it. Match must still be asked.
func (s *Search) Narrow(q *api.InstanceQuery, now time.Time) {
	for _, t := range s.terms {
		if t.not {
			continue
		}
		one := t.values[0]
		switch t.field {
		case "status":
			if picked := t.statuses(); len(q.Statuses) == 0 {
				q.Statuses = picked
			}
		case "parent":
			if len(t.values) == 1 && !one.glob && q.ParentID == "" {
				q.ParentID = api.InstanceID(one.text)
			}
		case "name":
			if len(t.values) == 1 && !one.glob && q.Name == "" {
				q.Name = one.text
			}
		case "id":
			if prefix, _, _ := strings.Cut(one.text, "*"); len(t.values) == 1 && q.IDPrefix == "" {
				q.IDPrefix = prefix
			}
		case "created":
			bound(q, t.op, one.at)
		case "age":
			bound(q, turned[t.op], now.Add(-one.span))
		}
	}
}

// statuses are those that the term can mean; nil for any.
func (t term) statuses() (all []api.OrchestrationStatus) {
	for _, v := range t.values {
		n, ok := protos.OrchestrationStatus_value["ORCHESTRATION_STATUS_"+strings.ToUpper(v.text)]
		if !ok {
			return nil // a pattern, or set aside, which any may be
		}
		all = append(all, api.OrchestrationStatus(n))
	}
	return all
}

// turned is an operator for a comparison in the other direction.
var turned = map[string]string{">": "<", ">=": "<=", "<": ">", "<=": ">="}

func bound(q *api.InstanceQuery, op string, at time.Time) {
	if strings.HasPrefix(op, ">") {
		if at.After(q.CreatedFrom) {
			q.CreatedFrom = at
		}
	} else if q.CreatedTo.IsZero() || at.Before(q.CreatedTo) {
		q.CreatedTo = at
	}
}

// Match reports whether all terms hold for the instance at a time.
func (s *Search) Match(m *api.OrchestrationMetadata, now time.Time) bool {
	for _, t := range s.terms {
		if t.holds(m, now) == t.not {
			return false
		}
	}
	return true
}

func (t term) holds(m *api.OrchestrationMetadata, now time.Time) bool {
	switch t.field {
	case "id":
		return t.is(string(m.InstanceID))
	case "name":
		return t.is(m.Name)
	case "status":
		return m.Stalled != "" && t.is("stalled") || t.is(api.StatusName(m.RuntimeStatus))
	case "version":
		return t.is(m.Version)
	case "parent":
		return t.is(string(m.ParentInstanceID))
	case "execution":
		return t.is(m.ExecutionID)
	case "stalled":
		return m.Stalled != "" && t.is(m.Stalled)
	case "tag":
		v, ok := m.Tags[t.path[0]]
		return ok && t.is(v)
	case "error":
		for f := m.FailureDetails; f != nil; f = f.GetInnerFailure() {
			if t.is(f.GetErrorType()) || t.is(f.GetErrorMessage()) {
				return true
			}
		}
		return false
	case "created":
		return t.compares(m.CreatedAt)
	case "updated":
		return t.compares(m.LastUpdatedAt)
	case "completed":
		return t.compares(m.CompletedAt)
	case "scheduled":
		return t.compares(m.ScheduledStartAt)
	case "age":
		return t.lasts(now.Sub(m.CreatedAt))
	case "idle":
		return t.lasts(now.Sub(m.LastUpdatedAt))
	case "duration":
		end := m.CompletedAt
		if end.IsZero() {
			end = now
		}
		return t.lasts(end.Sub(m.CreatedAt))
	case "input":
		return t.has(m.SerializedInput)
	case "output":
		return t.has(m.SerializedOutput)
	case "custom":
		return t.has(m.SerializedCustomStatus)
	}
	return false
}

func (t term) is(s string) bool {
	s = t.folded(s)
	for _, v := range t.values {
		if v.glob && glob(v.text, s) || !v.glob && v.text == s {
			return true
		}
	}
	return false
}

// glob matches a pattern whose stars stand for any text.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		n := strings.Index(s, part)
		if n < 0 {
			return false
		}
		s = s[n+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

func (t term) compares(at time.Time) bool {
	return !at.IsZero() && t.order(at.Compare(t.values[0].at))
}

func (t term) lasts(d time.Duration) bool {
	return t.order(int(min(max(d-t.values[0].span, -1), 1)))
}

// order reports whether the outcome of a comparison is what the operator wants.
func (t term) order(c int) bool {
	switch t.op {
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	case "<":
		return c < 0
	}
	return c <= 0
}

// has looks at a payload, or at a place in it.
func (t term) has(payload string) bool {
	if payload == "" {
		return false
	}
	if t.path == nil && t.op == ":" {
		return t.is(payload) || t.is(unquoted(payload))
	}
	d := json.NewDecoder(strings.NewReader(payload))
	d.UseNumber()
	var at any
	if d.Decode(&at) != nil {
		return false
	}
	for _, step := range t.path {
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				return false
			}
			at = next
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(v) {
				return false
			}
			at = v[n]
		default:
			return false
		}
	}
	return t.equals(at)
}

func (t term) equals(at any) bool {
	switch v := at.(type) {
	case string:
		if t.op == ":" {
			return t.is(v)
		}
	case json.Number:
		n, err := v.Float64()
		for _, want := range t.values {
			if t.op != ":" {
				return err == nil && t.order(compare(n, want.number))
			}
			if err == nil && want.isNum && n == want.number {
				return true
			}
		}
		return t.op == ":" && t.is(v.String())
	case bool:
		return t.op == ":" && t.is(strconv.FormatBool(v))
	case nil:
		return t.op == ":" && t.is("null")
	default: // an object or a list: as text
		if text, err := json.Marshal(v); err == nil && t.op == ":" {
			return t.is(string(text))
		}
	}
	return false
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// unquoted is a payload that is a JSON string, without its quotes.
func unquoted(payload string) string {
	var s string
	if json.Unmarshal([]byte(payload), &s) != nil {
		return payload
	}
	return s
}
