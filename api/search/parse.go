package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Search is a parsed search.
type Search struct{ terms []term }

// term is one condition.
type term struct {
	field  string // without its path
	path   []string
	op     string // ":", ">", ">=", "<" or "<="
	not    bool
	values []value
}

// value is what a field is compared with, in each form that its field needs.
type value struct {
	text   string // lower case where case does not count
	glob   bool
	number float64
	isNum  bool
	at     time.Time
	span   time.Duration
}

type kind uint8

const (
	text kind = iota
	moment
	span
	payload
)

var fields = map[string]kind{
	"id": text, "name": text, "status": text, "version": text, "parent": text, "execution": text, "error": text, "stalled": text, "tag": text,
	"created": moment, "updated": moment, "completed": moment, "scheduled": moment,
	"age": span, "idle": span, "duration": span,
	"input": payload, "output": payload, "custom": payload,
}

// Parse reads a search. Its error wraps [api.ErrInvalidInput], and names the
// place, in characters from 1.
func Parse(s string) (*Search, error) {
	p := &parser{in: []rune(s)}
	all := &Search{}
	for {
		for p.more() && unicode.IsSpace(p.in[p.at]) {
			p.at++
		}
		if !p.more() {
			return all, nil
		}
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		all.terms = append(all.terms, t)
	}
}

type parser struct {
	in []rune
	at int
}

func (p *parser) more() bool { return p.at < len(p.in) }

func (p *parser) fail(at int, format string, args ...any) error {
	return fmt.Errorf("%w: search, at character %d: %s", api.ErrInvalidInput, at+1, fmt.Sprintf(format, args...))
}

func (p *parser) term() (t term, err error) {
	if p.in[p.at] == '-' {
		t.not = true
		p.at++
	}
	begin := p.at
	if p.more() && p.in[p.at] == '"' { // a word in quotes
		return p.word(t)
	}
	for p.more() && !unicode.IsSpace(p.in[p.at]) && !strings.ContainsRune(`:<>"`, p.in[p.at]) {
		p.at++
	}
	name := string(p.in[begin:p.at])
	if !p.more() || unicode.IsSpace(p.in[p.at]) {
		p.at = begin
		return p.word(t)
	}
	if p.in[p.at] == '"' {
		return t, p.fail(p.at, "a quote in the middle of a word")
	}
	field, path, dotted := strings.Cut(name, ".")
	k, known := fields[strings.ToLower(field)]
	t.field = strings.ToLower(field)
	switch {
	case !known:
		return t, p.fail(begin, "there is no field %q", field)
	case dotted && k != payload && t.field != "tag":
		return t, p.fail(begin, "the field %s has no parts", field)
	case t.field == "tag" && path == "":
		return t, p.fail(begin, "want tag.KEY")
	case dotted && (path == "" || strings.Contains("."+path+".", "..") && k == payload):
		return t, p.fail(begin, "a part of %q is empty", name)
	case t.field == "tag":
		t.path = []string{path}
	case dotted:
		t.path = strings.Split(path, ".")
	}
	t.op = string(p.in[p.at])
	if p.at++; t.op != ":" && p.more() && p.in[p.at] == '=' {
		t.op += "="
		p.at++
	}
	if k == text && t.op != ":" {
		return t, p.fail(p.at-1, "%s has no order: want %s:value", field, field)
	}
	return t, p.values(&t, k)
}

// word is a term without a field.
func (p *parser) word(t term) (term, error) {
	if !p.more() || unicode.IsSpace(p.in[p.at]) {
		return t, p.fail(p.at, "a minus before nothing")
	}
	at := p.at
	s, quoted, err := p.value()
	if err == nil && s == "" && !quoted {
		return t, p.fail(at, "want a word")
	}
	t.field, t.op, t.values = "id", ":", []value{{text: "*" + s + "*", glob: true}}
	return t, err
}

func (p *parser) values(t *term, k kind) error {
	for {
		at := p.at
		s, quoted, err := p.value()
		if err != nil {
			return err
		}
		if s == "" && !quoted {
			return p.fail(at, "want a value")
		}
		v, err := p.read(t, k, s, at)
		if err != nil {
			return err
		}
		t.values = append(t.values, v)
		if !p.more() || p.in[p.at] != ',' {
			return nil
		}
		if t.op != ":" {
			return p.fail(p.at, "%s takes one value", t.op)
		}
		p.at++
	}
}

// value reads up to the next space or comma, or up to the end of the quotes.
func (p *parser) value() (s string, quoted bool, err error) {
	begin := p.at
	if p.more() && p.in[p.at] == '"' {
		var b strings.Builder
		for p.at++; p.more(); p.at++ {
			switch c := p.in[p.at]; {
			case c == '"':
				p.at++
				return b.String(), true, nil
			case c == '\\' && p.at+1 < len(p.in):
				p.at++
				b.WriteRune(p.in[p.at])
			default:
				b.WriteRune(c)
			}
		}
		return "", true, p.fail(begin, "the quotes do not end")
	}
	for p.more() && !unicode.IsSpace(p.in[p.at]) && p.in[p.at] != ',' {
		p.at++
	}
	return string(p.in[begin:p.at]), false, nil
}

func (p *parser) read(t *term, k kind, s string, at int) (v value, err error) {
	v.text, v.glob = t.folded(s), strings.Contains(s, "*")
	v.number, err = strconv.ParseFloat(s, 64)
	v.isNum = err == nil
	switch k {
	case moment:
		if t.op == ":" {
			return v, p.fail(at, "a time has no equal: want %s>%s or %[1]s<%s", t.field, s, s)
		}
		if v.at, err = parseTime(s); err != nil {
			return v, p.fail(at, "%q is no time: want 2026-01-31 or 2026-01-31T12:00:00Z", s)
		}
	case span:
		if t.op == ":" {
			return v, p.fail(at, "a duration has no equal: want %s>%s or %[1]s<%s", t.field, s, s)
		}
		if v.span, err = parseSpan(s); err != nil {
			return v, p.fail(at, "%q is no duration: want 90s, 5m, 2h or 3d", s)
		}
	case payload:
		if t.op != ":" && !v.isNum {
			return v, p.fail(at, "%q is no number", s)
		}
	case text:
		if t.field == "status" && !v.glob && v.text != "stalled" && !slices.ContainsFunc(statuses, func(n string) bool { return n == v.text }) {
			return v, p.fail(at, "there is no status %q: want %s", s, strings.Join(statuses, ", "))
		}
	}
	return v, nil
}

// folded is s as it is compared.
func (t *term) folded(s string) string {
	switch t.field {
	case "status", "error", "stalled", "input", "output", "custom":
		return strings.ToLower(s)
	}
	return s
}

// statuses are the names of the statuses, lower case.
var statuses = func() (all []string) {
	for n := range int32(len(protos.OrchestrationStatus_name)) {
		all = append(all, strings.ToLower(api.StatusName(protos.OrchestrationStatus(n))))
	}
	return all
}()

func parseTime(s string) (t time.Time, err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return t, err
}

func parseSpan(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n > 36500 || n < 0 {
			return 0, fmt.Errorf("%q is no number of days", days)
		}
		return time.Duration(n * 24 * float64(time.Hour)), nil
	}
	return time.ParseDuration(s)
}
