package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/internal/timeline"
)

// historyView is a stretch of a history.
type historyView struct {
	ID     api.InstanceID
	Events []eventRow
	Next   string // link to the events after these; "" at the end
	First  string // link to the beginning; "" there
	Here   string
	Follow bool
}

// eventRow is one event for people.
type eventRow struct {
	timeline.Line
	N    int    // its place, from 1
	Task string // the id of its action, "" for none
}

const shownEvents = 200

func (d *dashboard) history(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	id := api.InstanceID(q.Get("id"))
	after, err := strconv.Atoi(q.Get("after"))
	if q.Get("after") != "" && (err != nil || after < 0) {
		return fmt.Errorf("%w: after is %q, want a number", api.ErrInvalidInput, q.Get("after"))
	}
	v := historyView{ID: id, Here: d.link("/instance/history", "id", string(id), "after", q.Get("after"))}
	if after > 0 {
		v.First = d.link("/instance/history", "id", string(id))
	}
	err = d.events(r.Context(), id, func(n int, e *backend.HistoryEvent) error {
		if n <= after {
			return nil
		}
		if len(v.Events) == shownEvents {
			v.Next = d.link("/instance/history", "id", string(id), "after", strconv.Itoa(n-1))
			return errEnough
		}
		v.Events = append(v.Events, rowOf(n, e))
		return nil
	})
	if err != nil {
		return fmt.Errorf("history of %q: %w", id, err)
	}
	d.render(w, "history", "History of "+string(id), v)
	return nil
}

// errEnough ends the reading of a history.
var errEnough = errors.New("enough")

// events calls f for each event, numbered from 1, until f returns errEnough.
// A history is read in portions: it may be larger than memory.
func (d *dashboard) events(ctx context.Context, id api.InstanceID, f func(int, *backend.HistoryEvent) error) error {
	n := 0
	err := d.client.History(ctx, id, func(part []*backend.HistoryEvent) error {
		for _, e := range part {
			n++
			if err := f(n, e); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func rowOf(n int, e *backend.HistoryEvent) eventRow {
	row := eventRow{Line: timeline.Of(e), N: n}
	if id := max(row.ID, row.Line.Task); id >= 0 {
		row.Task = strconv.Itoa(int(id))
	}
	row.Payload = pretty(row.Payload)
	if len(row.Payload) > maxShown {
		row.Payload = strings.ToValidUTF8(row.Payload[:maxShown], "") + "…"
	}
	return row
}
