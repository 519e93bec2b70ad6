package dashboard

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/perdure/perdure/api"
)

// listView is a page of instances and the filter that selected it.
type listView struct {
	Rows     []*api.OrchestrationMetadata
	Statuses []statusBox
	Prefix   string // of ids
	Name     string
	Parent   string
	Search   string
	From, To string
	Size     int
	Oldest   bool // first
	Filter   []hidden
	First    string // the first page of the same filter; "" on it
	Next     string // the next page; "" on the last
}

// hidden is a field of the filter, as a form carries it along.
type hidden struct{ Name, Value string }

type statusBox struct {
	Name string
	On   bool
}

const defaultSize = 50

// list shows the instances that the query selects. All state is in the URL.
func (d *dashboard) list(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	q, err := queryOf(values)
	if err != nil {
		return err
	}
	page, err := d.client.Query(r.Context(), q)
	if err != nil {
		return fmt.Errorf("list instances: %w", err)
	}
	v := listView{
		Rows: page.Instances, Prefix: q.IDPrefix, Name: q.Name, Parent: string(q.ParentID), Search: q.Search,
		From: values.Get("from"), To: values.Get("to"), Size: q.PageSize, Oldest: !q.NewestFirst,
	}
	for _, s := range statuses() {
		box := statusBox{Name: api.StatusName(s)}
		for _, on := range q.Statuses {
			box.On = box.On || on == s
		}
		v.Statuses = append(v.Statuses, box)
	}
	for _, name := range []string{"status", "q", "prefix", "name", "parent", "from", "to", "order"} {
		for _, value := range values[name] {
			v.Filter = append(v.Filter, hidden{name, value})
		}
	}
	with := func(token string) string {
		next := url.Values{}
		for k, vs := range values {
			next[k] = vs
		}
		next.Del("token")
		if token != "" {
			next.Set("token", token)
		}
		return d.opts.Prefix + "/?" + next.Encode()
	}
	if q.Token != "" {
		v.First = with("")
	}
	if page.Token != "" {
		v.Next = with(page.Token)
	}
	d.render(w, "list", "Instances", v)
	return nil
}

// queryOf reads a filter from a URL or a form.
func queryOf(values url.Values) (api.InstanceQuery, error) {
	q := api.InstanceQuery{
		IDPrefix: values.Get("prefix"), Name: values.Get("name"), ParentID: api.InstanceID(values.Get("parent")),
		Token: values.Get("token"), PageSize: defaultSize, Payloads: true,
		NewestFirst: values.Get("order") != "oldest", Search: values.Get("q"),
	}
	for _, name := range values["status"] {
		if name == "" {
			continue
		}
		s, err := statusNamed(name)
		if err != nil {
			return q, err
		}
		q.Statuses = append(q.Statuses, s)
	}
	if size := values.Get("size"); size != "" {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || n > 1000 {
			return q, fmt.Errorf("%w: size %q is no number from 1 to 1000", api.ErrInvalidInput, size)
		}
		q.PageSize = n
	}
	var err error
	if q.CreatedFrom, err = moment("from", values.Get("from")); err != nil {
		return q, err
	}
	q.CreatedTo, err = moment("to", values.Get("to"))
	return q, err
}

// moment reads a time as date inputs and people write it; UTC where it does not say.
func moment(what, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %s is %q, want a time such as 2026-01-31T15:04", api.ErrInvalidInput, what, text)
}
