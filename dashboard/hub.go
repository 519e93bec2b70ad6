package dashboard

import (
	"fmt"
	"net/http"

	"github.com/perdure/perdure/api"
)

type entitiesView struct {
	Rows   []*api.EntityMetadata
	Prefix string
	All    bool
	Next   string
}

func (d *dashboard) entities(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	v := entitiesView{Prefix: q.Get("prefix"), All: q.Get("all") != ""}
	page, err := d.client.QueryEntities(r.Context(), api.EntityQuery{
		InstanceIDStartsWith: v.Prefix, IncludeTransient: v.All, IncludeState: true,
		PageSize: defaultSize, ContinuationToken: q.Get("token"),
	})
	if err != nil {
		return fmt.Errorf("list entities: %w", err)
	}
	v.Rows = page.Entities
	if page.ContinuationToken != "" {
		v.Next = d.link("/entities", "prefix", v.Prefix, "all", q.Get("all"), "token", page.ContinuationToken)
	}
	d.render(w, "entities", "Entities", v)
	return nil
}

func (d *dashboard) entity(w http.ResponseWriter, r *http.Request) error {
	id, err := api.EntityIDFromString(r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	m, err := d.client.FetchEntityMetadata(r.Context(), id, true)
	if err != nil {
		return fmt.Errorf("entity %s: %w", id, err)
	}
	d.render(w, "entity", id.String(), m)
	return nil
}

func (d *dashboard) workers(w http.ResponseWriter, _ *http.Request) error {
	if d.opts.Workers == nil {
		return fmt.Errorf("%w: this process has no remote workers", api.ErrUnsupported)
	}
	d.render(w, "workers", "Workers", d.opts.Workers())
	return nil
}
