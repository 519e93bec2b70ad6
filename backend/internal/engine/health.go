package engine

import (
	"context"
	"errors"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

const (
	// maxOutagePause bounds how long after the end of an outage its instances go on.
	maxOutagePause = 5 * time.Second
	// logPause is between two lines of log about commits that fail.
	logPause = 10 * time.Second
	// checkLimit bounds how long Health waits for the store.
	checkLimit = 5 * time.Second
)

// wentWrong keeps the outcome of a commit. The mutex is held.
func (e *Engine) wentWrong(err error) {
	if err == nil {
		if e.broken != nil && errors.Is(e.broken, store.ErrUnavailable) {
			e.log.Infof("commits succeed again, after %v", time.Duration(e.now()-e.brokenAt)*time.Microsecond)
		}
		e.broken, e.brokenAt, e.loggedAt = nil, 0, 0
		return
	}
	if e.broken == nil {
		e.brokenAt = e.now()
	}
	e.broken = err
}

// complain logs a failed commit, and one that fails as the one before only now and then. It takes the mutex.
func (e *Engine) complain(err error) {
	e.mu.Lock()
	now := e.now()
	quiet := e.broken != nil && e.loggedAt != 0 && now-e.loggedAt < logPause.Microseconds() && e.broken.Error() == err.Error()
	if !quiet {
		e.loggedAt = now
	}
	e.mu.Unlock()
	if !quiet {
		e.log.Errorf("commit: %v", err)
	}
}

// refuses keeps an error of the store that kept a new instance from being looked up. It takes the mutex.
func (e *Engine) refuses(err error) {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) {
		e.mu.Lock()
		e.wentWrong(err)
		e.mu.Unlock()
	}
}

// outagePause is how long an instance rests whose turn could not be stored: the
// longer commits fail, the longer. The mutex is held.
func (e *Engine) outagePause() time.Duration {
	if e.brokenAt == 0 {
		return retryPause
	}
	return min(max(time.Duration(e.now()-e.brokenAt)*time.Microsecond/4, retryPause), maxOutagePause)
}

// Health says why new work is refused: the store cannot be written now, or the
// last commit failed. Where a commit failed for an outage and the store can be
// written again, all is well, so that a hub that gets no work while it is ill recovers.
func (e *Engine) Health() error {
	e.mu.Lock()
	closed, broken := e.closed, e.broken
	e.mu.Unlock()
	if closed {
		return backend.ErrNotInitialized
	}
	c, ok := e.st.(store.Checker)
	if !ok || errors.Is(broken, store.ErrStaleEpoch) || errors.Is(broken, store.ErrCorrupt) {
		return broken
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	if err := c.Check(ctx, broken != nil); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken == broken { //nolint:errorlint // the very one that was looked at
		e.wentWrong(nil)
	}
	return e.broken
}
