package task

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

var _ backend.Waiter = (*continuation)(nil)

// Waits implements backend.Waiter.
func (c *continuation) Waits() []api.Wait {
	if !c.mu.TryLock() {
		return nil // a turn or a Stop has it
	}
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	return c.octx.waits()
}

func (ctx *OrchestrationContext) waits() []api.Wait {
	var all []api.Wait
	for _, waiters := range ctx.inbox.waiters {
		for _, h := range waiters {
			all = append(all, api.Wait{
				Reason: api.WaitEvent, Name: strings.TrimPrefix(h.what, "event "), TaskID: -1, Until: h.deadline,
			})
		}
	}
	for c := range ctx.retries {
		all = append(all, api.Wait{
			Reason: api.WaitRetry, Name: c.name, TaskID: c.last.TaskID, Until: c.retryAt,
			Attempt: c.attempt + 1, MaxAttempts: c.policy.MaxAttempts,
			Detail: fmt.Sprintf("%s: %s", c.last.Type, c.last.Message),
		})
	}
	slices.SortFunc(all, func(a, b api.Wait) int {
		return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.Name, b.Name), cmp.Compare(a.TaskID, b.TaskID))
	})
	return all
}
