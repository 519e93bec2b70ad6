package dashboard

import (
	"fmt"
	"net/http"

	"github.com/perdure/perdure/api"
)

type bulkView struct {
	action
	IDs    []string
	Back   string
	Done   []bulkResult // nil in the preview
	Failed int
	More   bool // the filter selects others too
}

// maxBulk is how many instances one request may be about.
const maxBulk = 1000

// matching are the ids that the filter of the form selects, up to maxBulk.
func (d *dashboard) matching(r *http.Request) (ids []string, more bool, err error) {
	q, err := queryOf(r.PostForm)
	if err != nil {
		return nil, false, err
	}
	for q.PageSize, q.Payloads, q.Token = maxBulk, false, ""; ; {
		page, err := d.client.Query(r.Context(), q)
		if err != nil {
			return nil, false, fmt.Errorf("list instances: %w", err)
		}
		for _, m := range page.Instances {
			if len(ids) == maxBulk {
				return ids, true, nil
			}
			ids = append(ids, string(m.InstanceID))
		}
		if q.Token = page.Token; q.Token == "" {
			return ids, false, nil
		}
	}
}

type bulkResult struct {
	ID    string
	Error string
}

// bulk does one action to several instances: first it shows them, then, told
// so, it does them one after the other and says what became of each.
func (d *dashboard) bulk(w http.ResponseWriter, r *http.Request) error {
	if d.opts.ReadOnly {
		return errReadOnly
	}
	r.Body = http.MaxBytesReader(w, r.Body, 8<<20)
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("%w: %w", api.ErrInvalidInput, err)
	}
	a, err := actionNamed(r.PostForm.Get("verb"))
	if err != nil {
		return err
	}
	v := bulkView{
		action: a, IDs: r.PostForm["id"], Back: d.link("/"),
	}
	o := order{reason: r.PostForm.Get("reason"), tree: r.PostForm.Get("tree") != ""}
	if a.Event || a.Verb == "start again" {
		return fmt.Errorf("%w: %s is for one instance at a time", api.ErrInvalidInput, a.Verb)
	}
	if r.PostForm.Get("all") != "" {
		if v.IDs, v.More, err = d.matching(r); err != nil {
			return err
		}
	}
	if len(v.IDs) == 0 {
		return fmt.Errorf("%w: no instance is chosen", api.ErrInvalidInput)
	}
	if r.PostForm.Get("confirmed") != "" {
		for _, id := range v.IDs {
			res := bulkResult{ID: id}
			if _, err := d.do(r.Context(), api.InstanceID(id), a.Verb, o); err != nil {
				res.Error = err.Error()
				v.Failed++
			}
			v.Done = append(v.Done, res)
		}
	}
	d.render(w, "bulk", a.Verb, v)
	return nil
}
