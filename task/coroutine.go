package task

import (
	"runtime"
	"runtime/debug"
)

// coroutine is a goroutine that runs only while its owner waits for it. It is
// not iter.Pull, because a runtime.Goexit of its body would leave through the
// owner's goroutine.
type coroutine struct {
	in       chan bool     // true: go on, false: unwind
	out      chan struct{} // it has yielded, or it is done
	started  bool
	stopping bool
	done     bool
	body     func()
	crashed  func(crash)
}

// crash is how user code ended without returning.
type crash struct {
	value  any // of the panic
	goexit bool
	stack  string
}

// newCoroutine makes a coroutine that has not started. crashed is called in
// its goroutine when body panics or calls runtime.Goexit.
func newCoroutine(body func(), crashed func(crash)) *coroutine {
	return &coroutine{in: make(chan bool), out: make(chan struct{}), body: body, crashed: crashed}
}

// resume runs the body until it yields or ends, and reports whether it yielded.
func (c *coroutine) resume() bool {
	switch {
	case c.done:
		return false
	case c.started:
		c.in <- true
	default:
		c.started = true
		go c.run()
	}
	<-c.out
	return !c.done
}

// yield is called by the body to give the control back.
func (c *coroutine) yield() {
	if c.stopping { // a deferred function of a body that is being unwound
		runtime.Goexit()
	}
	c.out <- struct{}{}
	if !<-c.in {
		runtime.Goexit()
	}
}

// stop unwinds the body; its deferred functions have run when stop returns.
func (c *coroutine) stop() {
	if c.done {
		return
	}
	c.stopping = true
	if !c.started {
		c.done = true
		return
	}
	c.in <- false
	<-c.out
}

func (c *coroutine) run() {
	defer func() {
		c.done = true
		c.out <- struct{}{}
	}()
	protect(c.body, func(cr crash) {
		if !c.stopping {
			c.crashed(cr)
		}
	})
}

// protect calls body, and crashed when body does not return. A panic ends
// here; a runtime.Goexit goes on to end the goroutine afterwards.
func protect(body func(), crashed func(crash)) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		crashed(crash{value: v, goexit: v == nil, stack: string(debug.Stack())})
	}()
	body()
	returned = true
}
