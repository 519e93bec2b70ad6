package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// RetentionRule says how long finished instances are kept. A child goes with
// its parent, whatever its own rule.
type RetentionRule struct {
	Statuses []api.OrchestrationStatus // none for all
	Name     string                    // of the orchestrator; "" for all
	Keep     time.Duration             // after the completion
}

// ParseRetentionRule reads "<status>[,<status>][@<orchestrator>]=<time>", such as
// "completed=7d", "failed,terminated=720h", "all@Order=90d"; api.ErrInvalidInput.
func ParseRetentionRule(s string) (r RetentionRule, err error) {
	what, keep, ok := strings.Cut(s, "=")
	if !ok {
		return r, fmt.Errorf("%w: retention %q: want status=time, such as completed=7d", api.ErrInvalidInput, s)
	}
	names, name, _ := strings.Cut(what, "@")
	r.Name = name
	for n := range strings.SplitSeq(names, ",") {
		n = strings.ToUpper(strings.TrimSpace(n))
		if n == "ALL" {
			continue
		}
		st, known := protos.OrchestrationStatus_value["ORCHESTRATION_STATUS_"+n]
		if !known || !api.IsTerminal(protos.OrchestrationStatus(st)) {
			return r, fmt.Errorf("%w: retention %q: %q is no status of a finished instance", api.ErrInvalidInput, s, n)
		}
		r.Statuses = append(r.Statuses, protos.OrchestrationStatus(st))
	}
	if days, isDays := strings.CutSuffix(keep, "d"); isDays {
		var hours time.Duration
		if hours, err = time.ParseDuration(days + "h"); err == nil {
			r.Keep = 24 * hours
		}
	} else {
		r.Keep, err = time.ParseDuration(keep)
	}
	if err != nil || r.Keep < 0 {
		return r, fmt.Errorf("%w: retention %q: %q is no time, such as 7d or 12h", api.ErrInvalidInput, s, keep)
	}
	return r, nil
}

func (r RetentionRule) matches(m *api.OrchestrationMetadata) bool {
	return (r.Name == "" || r.Name == m.Name) && (len(r.Statuses) == 0 || slices.Contains(r.Statuses, m.RuntimeStatus))
}

// Retention deletes the finished instances that its rules no longer keep. Of
// several rules that match an instance, the first counts.
type Retention struct {
	be    Backend
	list  FinishedLister
	rules []RetentionRule
	log   Logger
}

// NewRetention returns a Retention of a backend; api.ErrUnsupported.
func NewRetention(be Backend, rules []RetentionRule, log Logger) (*Retention, error) {
	list, ok := be.(FinishedLister)
	if _, manages := be.(InstanceManager); !ok || !manages {
		return nil, fmt.Errorf("retention: %w", api.ErrUnsupported)
	}
	return &Retention{be: be, list: list, rules: rules, log: log}, nil
}

// A pass deletes in batches of this size, with a rest after each, so that it
// does not stand in the way of the work.
const (
	retentionBatch = 100
	retentionRest  = 50 * time.Millisecond
)

// Pass goes over all finished instances that are old enough, once, and returns
// how many it deleted, descendants too. What cannot be deleted is logged and left.
func (r *Retention) Pass(ctx context.Context) (deleted int, err error) {
	now := time.Now()
	for n, rule := range r.rules {
		q := api.FinishedQuery{Statuses: rule.Statuses, CompletedTo: now.Add(-rule.Keep), PageSize: retentionBatch}
		for {
			page, err := r.list.ListFinished(ctx, q)
			if err != nil {
				return deleted, fmt.Errorf("retention: %w", err)
			}
			before := deleted
			for _, id := range page.IDs {
				gone, err := r.consider(ctx, id, n)
				if ctx.Err() != nil {
					return deleted, ctx.Err()
				}
				if err != nil {
					r.log.Warnf("retention of %s: %v", id, err)
				}
				deleted += gone
			}
			if q.Token = page.Token; q.Token == "" {
				break
			}
			if deleted > before && !pause(ctx, retentionRest) {
				return deleted, ctx.Err()
			}
		}
	}
	return deleted, nil
}

// consider deletes an instance where the rule is the first that matches it, and
// it has no parent left.
func (r *Retention) consider(ctx context.Context, id api.InstanceID, rule int) (int, error) {
	m, err := r.be.GetOrchestrationMetadata(ctx, id)
	if err != nil {
		return 0, ignoreGone(err)
	}
	first := slices.IndexFunc(r.rules, func(o RetentionRule) bool { return o.matches(m) })
	if first != rule {
		return 0, nil
	}
	if m.ParentInstanceID != "" {
		if _, err := r.be.GetOrchestrationMetadata(ctx, m.ParentInstanceID); !errors.Is(err, api.ErrInstanceNotFound) {
			return 0, err
		}
	}
	n, err := purge(ctx, r.be, id, true)
	return n, ignoreGone(err)
}

func ignoreGone(err error) error {
	if errors.Is(err, api.ErrInstanceNotFound) || errors.Is(err, api.ErrNotCompleted) {
		return nil // deleted, or started again, meanwhile
	}
	return err
}
