package vch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []time.Duration
		stop := beat(func(so time.Duration) { told = append(told, so) })
		time.Sleep(25 * time.Second)
		stop()
		time.Sleep(time.Minute)
		if !slices.Equal(told, []time.Duration{10 * time.Second, 20 * time.Second}) {
			t.Errorf("told after %v", told)
		}
	})
}

// An interrupt leaves a change under way some time, and then ends it.
func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancelCause(t.Context())
		change, done := draining(ctx)
		defer done()
		why := errors.New("ctrl-c")
		interrupt(why)
		time.Sleep(answerLimit - time.Second)
		if change.Err() != nil {
			t.Error("the change was given up at once")
		}
		time.Sleep(2 * time.Second)
		if context.Cause(change) != why {
			t.Errorf("it ends with %v", context.Cause(change))
		}
		// One that is done leaves nobody waiting: the bubble ends.
		_, done = draining(t.Context())
		done()
	})
}

// An endpoint that never finishes a pull, or a container that never ends, ends
// the test all the same.
func TestDockerNeverEnds(t *testing.T) {
	for _, hangs := range []string{"images/create", "/wait"} {
		hold := make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, hangs):
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				<-hold
			case strings.HasSuffix(r.URL.Path, "containers/create"):
				fmt.Fprint(w, `{"Id": "abc"}`)
			}
		}))
		d := NewDocker(strings.TrimPrefix(s.URL, "http://"), nil)
		d.Limit = 50 * time.Millisecond
		res, err := d.Test(t.Context(), nil, "busybox", nil)
		if err == nil || !strings.Contains(err.Error(), "not finished it within 50ms") {
			t.Errorf("%s: got %v", hangs, err)
		}
		if hangs == "/wait" && !res.Removed {
			t.Error("the container was not removed")
		}
		close(hold)
		d.Close()
		s.Close()
	}
}
