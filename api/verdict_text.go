package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// urgency orders the waits of a verdict: first what somebody should look at.
var urgency = map[WaitReason]int{
	WaitNoWorker: 1, WaitBusy: 2, WaitQueued: 3, WaitRetry: 4, WaitActivity: 5,
	WaitChild: 6, WaitEntity: 7, WaitEvent: 8, WaitTimer: 9,
}

// Conclude describes, orders and bounds the waits of the verdict, of which
// there must be one, and makes the most telling its reason.
func (v *Verdict) Conclude() {
	for n := range v.Waits {
		v.Waits[n].describe()
	}
	slices.SortStableFunc(v.Waits, func(a, b Wait) int { return cmp.Compare(urgency[a.Reason], urgency[b.Reason]) })
	if n := len(v.Waits) - MaxWaits; n > 0 {
		v.Waits, v.More = v.Waits[:MaxWaits], v.More+n
	}
	w := v.Waits[0]
	v.Reason, v.Since, v.Until = w.Reason, w.Since, w.Until
	v.Summary = "waits for " + w.Summary
	if n := len(v.Waits) + v.More - 1; n > 0 {
		v.Summary += fmt.Sprintf(", and for %d more", n)
	}
}

// describe puts the wait into words that follow "waits for".
func (w *Wait) describe() {
	task := fmt.Sprintf("activity %q (task %d)", w.Name, w.TaskID)
	switch w.Reason {
	case WaitNoWorker:
		w.Summary = task + ", which no connected worker hosts" + sinceText(w.Since)
	case WaitBusy:
		w.Summary = task + ": every worker that hosts it has all it takes" + sinceText(w.Since)
	case WaitQueued:
		w.Summary = task + ", which no worker took" + sinceText(w.Since)
	case WaitActivity:
		w.Summary = task
		if w.Attempt > 1 {
			w.Summary += fmt.Sprintf(", which was handed out %d times", w.Attempt)
		}
		w.Summary += " to run"
		if w.Worker != "" {
			w.Summary += " on worker " + w.Worker
		}
		w.Summary += sinceText(w.Since)
	case WaitRetry:
		w.Summary = fmt.Sprintf("attempt %d", w.Attempt)
		if w.MaxAttempts > 0 {
			w.Summary += fmt.Sprintf(" of %d", w.MaxAttempts)
		}
		w.Summary += fmt.Sprintf(" of %q at %s", w.Name, Clock(w.Until))
	case WaitTimer:
		w.Summary = "a timer that is due at " + Clock(w.Until)
	case WaitChild:
		w.Summary = fmt.Sprintf("child %q of orchestrator %q", string(w.InstanceID), w.Name) + sinceText(w.Since)
	case WaitEntity:
		w.Summary = fmt.Sprintf("entity %q", string(w.InstanceID)) + sinceText(w.Since)
	case WaitEvent:
		w.Summary = fmt.Sprintf("event %q", w.Name) + sinceText(w.Since)
		if w.Name == "" {
			w.Summary = "an external event" + sinceText(w.Since)
		}
		if !w.Until.IsZero() {
			w.Summary += ", until " + Clock(w.Until)
		}
	}
	if w.Detail != "" {
		w.Summary += " (" + w.Detail + ")"
	}
}

// Clock writes a time as verdicts do.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func sinceText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", since " + Clock(t)
}
