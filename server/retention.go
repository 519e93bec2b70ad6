package server

import (
	"context"
	"time"

	"github.com/perdure/perdure/backend"
)

// retain deletes what the rules no longer keep, in all hubs that are open, again and again until ctx ends.
func (s *hubs) retain(ctx context.Context) {
	if len(s.opts.Retention) == 0 {
		return
	}
	tick := time.NewTicker(s.opts.retentionEvery)
	defer tick.Stop()
	for {
		for _, h := range s.all() {
			if s.opened(h.name) != h || h.err != nil {
				continue
			}
			r, err := backend.NewRetention(h.be, s.opts.Retention, s.opts.Log)
			if err == nil {
				var n int
				if n, err = r.Pass(ctx); n > 0 {
					s.opts.Log.Infof("task hub %q: retention deleted %d instances", h.name, n)
				}
			}
			if err != nil && ctx.Err() == nil {
				s.opts.Log.Errorf("task hub %q: %v", h.name, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
