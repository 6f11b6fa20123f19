package vch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// taskError is a task that the server carried out and that failed.
type taskError struct {
	fault, text string
}

func (e *taskError) Error() string { return e.text }

// wait asks for a task until it has ended, and returns its result. Asking costs
// one request where a filter would cost two before its first answer, and the
// tasks here take a second or less; those that take longer are asked once a
// second.
func wait(ctx context.Context, c *esxi.Client, task Ref) (types.AnyType, error) {
	limit := cmp.Or(c.Endpoint().CallTimeout, taskLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &slowError{limit})
	defer cancel()
	pauses := []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond, time.Second}
	for i := 0; ; i++ {
		if sleep(ctx, pauses[min(i, len(pauses)-1)]) != nil {
			return nil, context.Cause(ctx)
		}
		ask, cancel := context.WithTimeout(ctx, answerLimit)
		objects, err := retrieve(ask, c, types.PropertyFilterSpec{
			PropSet:   []types.PropertySpec{{Type: "Task", PathSet: []string{"info.state", "info.error", "info.result"}}},
			ObjectSet: []types.ObjectSpec{{Obj: task}},
		})
		cancel()
		if err != nil {
			return nil, err
		}
		p := properties{}
		for _, o := range objects {
			for _, prop := range o.PropSet {
				p[prop.Name] = prop.Val
			}
		}
		switch p["info.state"] {
		case types.TaskInfoStateSuccess:
			return p["info.result"], nil
		case types.TaskInfoStateError:
			f, _ := p["info.error"].(types.LocalizedMethodFault)
			name, text := esxi.FaultWords(&f)
			return nil, &taskError{name, text}
		}
	}
}

// taskLimit bounds a task: deleting a folder full of disks can take minutes.
const taskLimit = 10 * time.Minute

// slowError is a task that takes too long.
type slowError struct{ limit time.Duration }

func (e *slowError) Error() string {
	return fmt.Sprintf("the server has not finished it within %v", e.limit)
}
func (e *slowError) Unwrap() error { return context.DeadlineExceeded }

// Pauses that spare a real server. Tests have one of their own, and shorten
// them.
var (
	retryPause = 300 * time.Millisecond // before the first retry, and twice that before the second
	gatherFor  = 250 * time.Millisecond // in which changes come together: the appliance writes its keys one by one
	askAgain   = time.Second            // where the server cannot be waited on
)

// waitingEvery is the longest that a wait is silent.
const waitingEvery = 10 * time.Second

// beat tells how long something takes, until stop is called.
func beat(tell func(so time.Duration)) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		start := time.Now()
		tick := time.NewTicker(waitingEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell(time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// answerLimit bounds a call that the server answers at once when it is there.
const answerLimit = 10 * time.Second

// draining returns a context for a change on the server: an interrupt leaves it
// answerLimit to end in. A change that is given up at once may still be carried
// out, after the look that decides what is to be taken back.
func draining(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if sleep(out, answerLimit) == nil {
			cancel(context.Cause(ctx))
		}
	})
	return out, func() {
		stop()
		cancel(nil)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// faultOf returns the type of the fault behind err, "" where the server did not
// refuse.
func faultOf(err error) string {
	var call *esxi.CallError
	var task *taskError
	switch {
	case errors.As(err, &task):
		return task.fault
	case errors.As(err, &call):
		return call.Fault
	}
	return ""
}

// gone reports that the object of a call is not there (any more).
func gone(err error) bool {
	return slices.Contains([]string{"ManagedObjectNotFound", "NotFound", "FileNotFound"}, faultOf(err))
}

// refused reports that the server answered: the call changed nothing.
func refused(err error) bool {
	var call *esxi.CallError
	return errors.As(err, &call) && call.Refused
}

// Retries of a call that may be repeated: reads, and removals, which find
// nothing left to do the second time.
const retries = 2

// again repeats what failed and does no harm when it is done twice. A session
// that has ended, a missing object, a server that keeps silent and an interrupt
// are not tried again.
func again(ctx context.Context, do func() error) error {
	for i := 0; ; i++ {
		err := do()
		if err == nil || i == retries || ctx.Err() != nil || silent(err) || gone(err) || faultOf(err) == "NotAuthenticated" || faultOf(err) == "InvalidProperty" {
			return err
		}
		if sleep(ctx, retryPause<<i) != nil {
			return err
		}
	}
}

// silent reports that the server did not answer in time.
func silent(err error) bool {
	var dial *esxi.DialError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &dial) && dial.Timeout
}
