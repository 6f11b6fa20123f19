package vch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// watch follows one machine from power-on.
type watch struct {
	r     *upRun
	task  Ref         // of power-on; the zero Ref is none
	ready chan string // gets the address once everything has started

	mu      sync.Mutex
	state   bootState
	told    map[string]string // part → what was said of it
	sent    bool
	started time.Time
}

func (w *watch) locked(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// longPoll bounds one wait on the server, in seconds. Proxies and firewalls
// drop what is silent for much longer.
const longPoll = 50

// run follows the machine until it fails or ctx ends.
func (w *watch) run(ctx context.Context) error {
	w.told, w.started = map[string]string{}, time.Now()
	beats, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	late := make(chan error, 1)
	wg.Go(func() { w.heartbeat(beats, late) })

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wg.Go(func() {
		select {
		case err := <-late:
			cancel(err)
		case <-beats.Done():
		}
	})
	err := w.follow(ctx)
	var boot *BootError
	if cause := context.Cause(ctx); errors.As(cause, &boot) {
		return cause
	}
	return err
}

// heartbeat says what is being waited for, and ends a wait for an address that
// takes too long.
func (w *watch) heartbeat(ctx context.Context, late chan<- error) {
	limit := w.r.o.addressTimeout()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	beat := time.NewTicker(waitingEvery)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			w.locked(func() {
				w.r.on(Event{Kind: "waiting", Text: fmt.Sprintf("%s, after %v", strings.Join(w.state.summary(), ", "), time.Since(w.started).Round(time.Second))})
			})
		case <-deadline.C:
			w.locked(func() {
				if w.state.address(Client) == "" {
					text := fmt.Sprintf("no address %v after power-on", limit)
					if n := w.r.p.spec.network(Client); !n.IP.IsValid() {
						text += ": it asks for one by DHCP on " + n.Network
					}
					late <- &BootError{Text: text, State: w.state.summary()}
				}
			})
		case <-ctx.Done():
			return
		}
	}
}

var watchedVM = []string{"runtime.powerState", "config.extraConfig"}

// follow waits for changes on the server, and asks again and again where
// it cannot wait.
func (w *watch) follow(ctx context.Context) error {
	err := w.updates(ctx)
	var stop *BootError
	var failed *taskError
	if err == nil || ctx.Err() != nil || errors.As(err, &stop) || errors.As(err, &failed) {
		return err
	}
	for misses := 0; ; {
		objects, err := esxi.Retrieve(ctx, w.r.c.Vim, types.PropertyFilterSpec{
			PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: watchedVM}},
			ObjectSet: []types.ObjectSpec{{Obj: w.r.at.vm}},
		})
		if err != nil {
			if misses++; misses > 5 || ctx.Err() != nil || gone(err) {
				return err
			}
		}
		for _, o := range objects {
			misses = 0
			for _, p := range o.PropSet {
				w.locked(func() { w.take(p.Name, p.Val) })
			}
		}
		if err := w.judge(); err != nil {
			return err
		}
		if err := sleep(ctx, askAgain); err != nil {
			return err
		}
	}
}

// updates follows the machine and its power-on task with a property collector
// of its own, which ends with the session.
func (w *watch) updates(ctx context.Context) error {
	c := w.r.c
	pc, err := methods.CreatePropertyCollector(ctx, c.Vim, &types.CreatePropertyCollector{This: c.Vim.ServiceContent.PropertyCollector})
	if err != nil {
		return err
	}
	spec := types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: watchedVM}},
		ObjectSet: []types.ObjectSpec{{Obj: w.r.at.vm}},
	}
	if w.task.Value != "" {
		spec.PropSet = append(spec.PropSet, types.PropertySpec{Type: "Task", PathSet: []string{"info.state", "info.error"}})
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: w.task})
	}
	if _, err := methods.CreateFilter(ctx, c.Vim, &types.CreateFilter{This: pc.Returnval, Spec: spec}); err != nil {
		return err
	}
	version := ""
	var task properties = properties{}
	for {
		call, cancel := context.WithTimeout(ctx, (longPoll+20)*time.Second)
		res, err := methods.WaitForUpdatesEx(call, c.Vim, &types.WaitForUpdatesEx{This: pc.Returnval, Version: version,
			Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(longPoll)}})
		cancel()
		if err != nil {
			return err
		}
		if res.Returnval == nil {
			continue
		}
		version = res.Returnval.Version
		unclear := false
		for _, f := range res.Returnval.FilterSet {
			for _, o := range f.ObjectSet {
				for _, change := range o.ChangeSet {
					if o.Obj.Type == "Task" {
						task[change.Name] = change.Val
						continue
					}
					w.locked(func() { unclear = !w.take(change.Name, change.Val) || unclear })
				}
			}
		}
		switch task["info.state"] {
		case types.TaskInfoStateError:
			f, _ := task["info.error"].(types.LocalizedMethodFault)
			name, text := esxi.FaultWords(&f)
			return &taskError{name, text}
		case types.TaskInfoStateSuccess:
			// It was on, perhaps for less time than it took to look: what it is
			// now is read, in case its power is reported after its task.
			if !w.seenOn() {
				if err := w.reread(ctx); err != nil {
					return err
				}
				w.locked(func() { w.state.was = true })
			}
		}
		if unclear {
			if err := w.reread(ctx); err != nil {
				return err
			}
		}
		if err := w.judge(); err != nil {
			return err
		}
		if res.Returnval.Truncated != nil && *res.Returnval.Truncated {
			continue
		}
		if err := sleep(ctx, gatherFor); err != nil {
			return err
		}
	}
}

// reread asks for all keys, where a change came in a form that is not known.
func (w *watch) reread(ctx context.Context) error {
	objects, err := retrieve(ctx, w.r.c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: watchedVM}},
		ObjectSet: []types.ObjectSpec{{Obj: w.r.at.vm}},
	})
	if err != nil {
		return err
	}
	for _, o := range objects {
		for _, p := range o.PropSet {
			w.locked(func() { w.take(p.Name, p.Val) })
		}
	}
	return nil
}

func (w *watch) seenOn() (was bool) {
	w.locked(func() { was = w.state.was })
	return was
}

// take files one property, and reports whether its form was understood.
func (w *watch) take(name string, v types.AnyType) bool {
	if name == "runtime.powerState" {
		w.state.on = v == types.VirtualMachinePowerStatePoweredOn
		w.state.was = w.state.was || w.state.on
		return true
	}
	return w.state.keys.take(name, v)
}

// judge tells what is new, ends the wait for a failure, and hands over the
// address once everything has started.
func (w *watch) judge() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	say := func(kind, part, text string) {
		if text != "" && w.told[kind+part] != text {
			w.told[kind+part] = text
			w.r.on(Event{Kind: kind, Part: part, Text: text})
		}
	}
	for _, r := range outer {
		say("address", string(r), w.state.address(r))
	}
	for _, c := range components {
		s := w.state.started(c)
		if s == "true" {
			s = "running"
		}
		say("component", c, s)
	}
	if err := w.state.failure(); err != nil {
		return err
	}
	if w.state.ready() && !w.sent {
		w.sent = true
		w.ready <- w.state.address(Client)
	}
	return nil
}
