package dashboard

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// instanceView is all that is known of one instance without its history.
type instanceView struct {
	*api.OrchestrationMetadata
	Verdict               *api.Verdict
	Input, Output, Custom payloadView
	Failures              []*protos.TaskFailureDetails // the failure and its causes
	Children              []*api.OrchestrationMetadata
	MoreChildren          string // link to all of them
	Actions               []action
}

const shownChildren = 50

func (d *dashboard) instance(w http.ResponseWriter, r *http.Request) error {
	id := api.InstanceID(r.URL.Query().Get("id"))
	m, err := d.client.FetchOrchestrationMetadata(r.Context(), id)
	if err != nil {
		return fmt.Errorf("instance %q: %w", id, err)
	}
	v := instanceView{
		OrchestrationMetadata: m, Actions: actionsFor(m),
		Input:  d.payloadView(id, "input", m.SerializedInput),
		Output: d.payloadView(id, "output", m.SerializedOutput),
		Custom: d.payloadView(id, "status", m.SerializedCustomStatus),
	}
	for f := m.FailureDetails; f != nil; f = f.GetInnerFailure() {
		v.Failures = append(v.Failures, f)
	}
	if d.opts.Explain != nil {
		v.Verdict, err = d.opts.Explain(r.Context(), id)
		if err != nil && !errors.Is(err, api.ErrUnsupported) && !errors.Is(err, api.ErrInstanceNotFound) {
			return fmt.Errorf("explain %q: %w", id, err)
		}
	}
	page, err := d.client.Query(r.Context(), api.InstanceQuery{ParentID: id, PageSize: shownChildren})
	if err != nil && !errors.Is(err, api.ErrUnsupported) {
		return fmt.Errorf("children of %q: %w", id, err)
	}
	if page != nil {
		v.Children = page.Instances
		if page.Token != "" {
			v.MoreChildren = d.link("/", "parent", string(id))
		}
	}
	d.render(w, "instance", string(id), v)
	return nil
}

// payload is one payload as it is.
func (d *dashboard) payload(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	id := api.InstanceID(q.Get("id"))
	m, err := d.client.FetchOrchestrationMetadata(r.Context(), id)
	if err != nil {
		return fmt.Errorf("instance %q: %w", id, err)
	}
	var text string
	switch what := q.Get("what"); what {
	case "input":
		text = m.SerializedInput
	case "output":
		text = m.SerializedOutput
	case "status":
		text = m.SerializedCustomStatus
	default:
		return fmt.Errorf("%w: there is no payload %q", api.ErrInvalidInput, what)
	}
	// Plain text, whatever it holds: nothing in it is ever run.
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text) // the reader may be gone
	return nil
}
