package server

import (
	"context"
	"time"

	"github.com/perdure/perdure/backend"
)

// A jump is made when nothing has changed for so many looks.
const (
	skipInterval = 10 * time.Millisecond
	skipLooks    = 3
)

// glance is what must stay as it is before time is skipped.
type glance struct {
	running, queued, workers int
	due                      time.Time
}

func (s *hubs) glance() glance {
	var g glance
	for _, h := range s.all() {
		if m, ok := h.be.(backend.Metered); ok {
			st := m.Stats()
			g.running += st.Turns + st.Activities + st.Entities
			g.queued += st.QueuedTurns + st.QueuedActivities + st.QueuedEntities
			if !st.NextDue.IsZero() && (g.due.IsZero() || st.NextDue.Before(g.due)) {
				g.due = st.NextDue
			}
		}
		if r, ok := h.executor.(backend.WorkerReporter); ok {
			g.workers += len(r.Workers())
		}
	}
	return g
}

// skipWaits sets the clock ahead to what is due next whenever workers are
// connected, nothing runs and nothing has happened for a moment. What is queued then
// is for workers that are not there: it does not hold up the others.
func (s *hubs) skipWaits(ctx context.Context, clock *backend.VirtualClock) {
	tick := time.NewTicker(skipInterval)
	defer tick.Stop()
	last, same := glance{}, 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		g := s.glance()
		if same++; g != last {
			last, same = g, 0
		}
		ahead := g.due.Sub(clock.Now())
		if same < skipLooks || g.workers == 0 || g.running > 0 || g.due.IsZero() || ahead <= 0 {
			continue
		}
		if _, err := clock.Advance(ahead); err != nil {
			s.opts.Log.Errorf("the clock stays: %v", err)
			return
		}
		s.opts.Log.Debugf("skipped %v", ahead)
		same = 0
	}
}
