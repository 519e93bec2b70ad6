package task

import (
	"fmt"
	"math"
	"time"
)

// RetryPolicy says how often and when a failed activity or sub-orchestration
// is tried again. A policy is copied when it is given to a call, and never changed.
type RetryPolicy struct {
	// MaxAttempts counts all tries, the first included; at least 1.
	MaxAttempts int
	// InitialRetryInterval is the delay before the second try; positive.
	InitialRetryInterval time.Duration
	// BackoffCoefficient multiplies the delay after each try: at least 1; 0 means 1.
	BackoffCoefficient float64
	// MaxRetryInterval limits the delay; 0 means 100 years.
	MaxRetryInterval time.Duration
	// RetryTimeout is the time, counted from the call, after which no try begins; 0 means none.
	RetryTimeout time.Duration
	// Handle reports whether a failure is to be retried; nil means yes. It
	// gets a [*TaskFailedError] and must be deterministic. It is not asked
	// about the last attempt, nor about failures marked as non-retriable. A
	// panic in it fails the task; Await in it returns [ErrTaskBlocked].
	Handle func(error) bool
}

// checked returns a copy, or an error that wraps ErrInvalidRetryPolicy.
func (p *RetryPolicy) checked() (*RetryPolicy, error) {
	if p == nil {
		return nil, nil
	}
	c := p.BackoffCoefficient
	switch {
	case p.MaxAttempts < 1:
		return nil, fmt.Errorf("%w: MaxAttempts is %d, not at least 1", ErrInvalidRetryPolicy, p.MaxAttempts)
	case p.InitialRetryInterval <= 0:
		return nil, fmt.Errorf("%w: InitialRetryInterval is %v, not positive", ErrInvalidRetryPolicy, p.InitialRetryInterval)
	case c != 0 && !(c >= 1) || math.IsInf(c, 0):
		return nil, fmt.Errorf("%w: BackoffCoefficient is %v, not at least 1 and finite", ErrInvalidRetryPolicy, c)
	case p.MaxRetryInterval < 0:
		return nil, fmt.Errorf("%w: MaxRetryInterval is %v, negative", ErrInvalidRetryPolicy, p.MaxRetryInterval)
	case p.RetryTimeout < 0:
		return nil, fmt.Errorf("%w: RetryTimeout is %v, negative", ErrInvalidRetryPolicy, p.RetryTimeout)
	}
	own := *p
	return &own, nil
}

const maxRetryDelay = time.Duration(100 * 365 * 24 * float64(time.Hour)) // 100 years

// backoff is the delay after the given attempt, from 1.
func (p *RetryPolicy) backoff(attempt int) time.Duration {
	limit := p.MaxRetryInterval
	if limit == 0 {
		limit = maxRetryDelay
	}
	coefficient := p.BackoffCoefficient
	if coefficient == 0 {
		coefficient = 1
	}
	d := float64(p.InitialRetryInterval) * math.Pow(coefficient, float64(attempt-1))
	if !(d < float64(limit)) { // infinity too
		return limit
	}
	return time.Duration(d)
}

// call is one activity or sub-orchestration with all its tries. The events
// that fail a try drive it, so calls retry independently of who awaits them.
type call struct {
	callOptions
	ctx     *OrchestrationContext
	kind    actionKind
	name    string
	first   time.Time // when it was called
	attempt int       // the current one, from 1
	handle  *handle

	retryAt time.Time // of the next attempt, while it waits for it
	last    *TaskFailedError
}

// failed retries, or fails the task.
func (c *call) failed(failure *TaskFailedError) {
	p := c.policy
	if p == nil || c.attempt >= p.MaxAttempts || failure.NonRetriable || c.ctx.closed() {
		c.handle.fail(failure)
		return
	}
	at := c.ctx.CurrentTimeUtc.Add(p.backoff(c.attempt))
	if c.late(at) {
		c.handle.fail(failure)
		return
	}
	if again, crashed := c.ask(failure); crashed != nil || !again {
		if crashed != nil {
			failure = crashed
		}
		c.handle.fail(failure)
		return
	}
	c.retryAt, c.last = at, failure
	c.ctx.retries[c] = struct{}{}
	c.ctx.startTimer(at, func() {
		delete(c.ctx.retries, c)
		if c.late(c.ctx.CurrentTimeUtc) {
			c.handle.fail(failure)
			return
		}
		c.try()
	})
}

// late reports whether no try may begin at t.
func (c *call) late(t time.Time) bool {
	return c.policy.RetryTimeout > 0 && t.After(c.first.Add(c.policy.RetryTimeout))
}

// ask calls the policy's Handle function.
func (c *call) ask(failure *TaskFailedError) (again bool, crashed *TaskFailedError) {
	if c.policy.Handle == nil {
		return true, nil
	}
	c.ctx.inHandler = true
	defer func() { c.ctx.inHandler = false }()
	protect(
		func() { again = c.policy.Handle(failure) },
		func(cr crash) {
			if cr.goexit {
				return // it ends the orchestrator's goroutine, which reports it
			}
			own := *failure
			own.Type, own.Message = ErrorTypeRetryHandlerPanic, fmt.Sprint("panic in retry handler: ", cr.value)
			own.StackTrace, own.cause = cr.stack, failure
			crashed = &own
		})
	return again, crashed
}
