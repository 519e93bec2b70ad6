package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/perdure/perdure/api"
)

// action is something that a reader may do to an instance.
type action struct {
	Verb   string
	About  string // what it will do
	Reason bool   // it takes a reason
	Event  bool   // it takes the name and data of an event
	Danger bool   // it cannot be undone
	Tree   bool   // it may take the sub-orchestrations along
}

var allActions = []action{
	{Verb: "raise", About: "Raise an event for the instance", Event: true},
	{Verb: "suspend", About: "Pause the instance: it takes events and does nothing until it is resumed", Reason: true},
	{Verb: "resume", About: "Let the instance go on", Reason: true},
	{Verb: "terminate", About: "End the instance at once; its output is the reason", Reason: true, Danger: true, Tree: true},
	{Verb: "rewind", About: "Let the failed instance go on from before its failure: what failed runs again", Reason: true},
	{Verb: "restart", About: "Start the orchestration again under the same id with the same input: this run is deleted", Danger: true},
	{Verb: "start again", About: "Start the orchestration again under a new id with the same input"},
	{Verb: "purge", About: "Delete the instance with its history", Danger: true, Tree: true},
}

// actionsFor are the actions that make sense in the instance's state.
func actionsFor(m *api.OrchestrationMetadata) []action {
	var list []action
	for _, a := range allActions {
		fits := !m.IsComplete()
		switch a.Verb {
		case "suspend":
			fits = fits && m.RuntimeStatus != api.RUNTIME_STATUS_SUSPENDED
		case "resume":
			fits = m.RuntimeStatus == api.RUNTIME_STATUS_SUSPENDED
		case "rewind":
			fits = m.RuntimeStatus == api.RUNTIME_STATUS_FAILED
		case "restart", "purge":
			fits = m.IsComplete()
		case "start again":
			fits = true
		}
		if fits {
			list = append(list, a)
		}
	}
	return list
}

func actionNamed(verb string) (action, error) {
	for _, a := range allActions {
		if a.Verb == verb {
			return a, nil
		}
	}
	return action{}, fmt.Errorf("%w: there is no action %q", api.ErrInvalidInput, verb)
}

type actView struct {
	action
	Instance *api.OrchestrationMetadata
	Children int
	More     bool // there are more children than were counted
}

// askAct shows what an action will do, before it is done.
func (d *dashboard) askAct(w http.ResponseWriter, r *http.Request) error {
	if d.opts.ReadOnly {
		return errReadOnly
	}
	a, err := actionNamed(r.URL.Query().Get("verb"))
	if err != nil {
		return err
	}
	id := api.InstanceID(r.URL.Query().Get("id"))
	m, err := d.client.FetchOrchestrationMetadata(r.Context(), id)
	if err != nil {
		return fmt.Errorf("%s %q: %w", a.Verb, id, err)
	}
	v := actView{action: a, Instance: m}
	if a.Tree {
		page, err := d.client.Query(r.Context(), api.InstanceQuery{ParentID: id, PageSize: 1000})
		if err != nil && !errors.Is(err, api.ErrUnsupported) {
			return fmt.Errorf("children of %q: %w", id, err)
		}
		if page != nil {
			v.Children, v.More = len(page.Instances), page.Token != ""
		}
	}
	d.render(w, "act", a.Verb+" "+string(id), v)
	return nil
}

// act does what askAct showed.
func (d *dashboard) act(w http.ResponseWriter, r *http.Request) error {
	if d.opts.ReadOnly {
		return errReadOnly
	}
	r.Body = http.MaxBytesReader(w, r.Body, 8<<20)
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("%w: %w", api.ErrInvalidInput, err)
	}
	id := api.InstanceID(r.PostForm.Get("id"))
	at, err := d.do(r.Context(), id, r.PostForm.Get("verb"), order{
		reason: r.PostForm.Get("reason"), event: r.PostForm.Get("event"), data: r.PostForm.Get("data"),
		tree: r.PostForm.Get("tree") != "",
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, at, http.StatusSeeOther)
	return nil
}

// order is what a reader said of an action.
type order struct {
	reason, event, data string
	tree                bool
}

// do returns where to look next.
func (d *dashboard) do(ctx context.Context, id api.InstanceID, verb string, o order) (string, error) {
	here := d.link("/instance", "id", string(id))
	var err error
	switch verb {
	case "raise":
		if o.event == "" {
			return "", fmt.Errorf("%w: the event has no name", api.ErrInvalidInput)
		}
		var data any
		if o.data != "" {
			data = api.WithRawEventData(o.data)
		}
		err = d.client.RaiseEvent(ctx, id, o.event, data)
	case "suspend":
		err = d.client.SuspendOrchestration(ctx, id, o.reason)
	case "resume":
		err = d.client.ResumeOrchestration(ctx, id, o.reason)
	case "terminate":
		opts := []api.TerminateOptions{api.WithRecursiveTerminate(o.tree)}
		if o.reason != "" {
			opts = append(opts, api.WithOutput(o.reason))
		}
		err = d.client.Terminate(ctx, id, opts...)
	case "rewind":
		err = d.client.Rewind(ctx, id, o.reason)
	case "restart":
		_, err = d.client.Restart(ctx, id, false)
	case "start again":
		var next api.InstanceID
		if next, err = d.client.Restart(ctx, id, true); err == nil {
			here = d.link("/instance", "id", string(next))
		}
	case "purge":
		_, err = d.client.Purge(ctx, id, api.WithRecursivePurge(o.tree))
		here = d.link("/")
	default:
		_, err = actionNamed(verb)
	}
	if err != nil {
		return "", fmt.Errorf("%s %q: %w", verb, id, err)
	}
	return here, nil
}
