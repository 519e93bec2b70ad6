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
