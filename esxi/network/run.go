package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Outcome says where a host stands after a run, as read back from it.
type Outcome string

const (
	Applied    Outcome = "applied"     // as the plan wants it
	RolledBack Outcome = "rolled-back" // changed and changed back, by vCenter or by labctl
	NotApplied Outcome = "not-applied" // never changed
	Unknown    Outcome = "unknown"     // neither, or not to be read
	Rescued    Outcome = "rescued"     // brought back from its console, to neither
)

// Defaults of Run.Timeout. vCenter answers a change that it rolls back only
// after its own time-out, some 30 s; a physical switch without PortFast keeps
// a port that came up anew silent for 30 to 50 s.
const (
	defaultAnswer = 2 * time.Minute
	defaultAway   = time.Minute
)

const (
	rereadEvery   = 500 * time.Millisecond
	settleFor     = 2 * time.Second  // a host is believed to be untouched when two reads this far apart say so
	revertFor     = 40 * time.Second // a host reverts a change that vCenter does not commit; some 30 s by field reports
	heartbeat     = 10 * time.Second
	maxEdits      = 8 // virtual machines edited at the same time
	retryWithin   = 3 * time.Second
	cleanupLimit  = 10 * time.Second // for the host to answer while cleaning up
	lastLook      = 2 * time.Second  // the least for a look at a host that is away, however little of the window is left
	knockEvery    = 50 * time.Millisecond
	knockTimeout  = time.Second
	batchInterval = 250 * time.Millisecond // between two looks at many tasks
)

// Event is one thing that happened, for whoever shows the run.
type Event struct {
	Event   string        `json:"event"`          // step, progress, wait or note
	Step    string        `json:"step,omitempty"` // prepare, change, verify, vms, undo, clean
	State   string        `json:"state,omitempty"`
	Text    string        `json:"text"`
	Done    int           `json:"done,omitempty"`  // progress: machines whose edit has ended
	Total   int           `json:"total,omitempty"` // progress: of how many
	Elapsed time.Duration `json:"-"`
}

// The states of a step.
const (
	Started = "started"
	Done    = "done"
	Failed  = "failed"
)

// Result is how a run ended.
type Result struct {
	Outcome     Outcome
	Moved       int      // virtual machines that are where the run wanted them
	FailedVMs   []string // those that are not, with the reason
	Left        []string // everything else that is not as it should be
	Cut         bool     // management was moved, in either direction
	Outage      time.Duration
	OutageKnown bool   // false: Outage is an upper bound, no probe watched the host
	Sent        bool   // a changing call was sent
	RolledBy    string // who took the change back: vcenter or labctl
	Cause       string // why it did not end in Applied
	Gone        bool   // no path reached the host in the end
	At          []Kind // Gone: the kinds of switch that management may be on
	Typed       bool   // the console was typed into
}

// Clean reports whether the host is wholly in one of the two good states.
func (r *Result) Clean() bool {
	return r.Outcome != Unknown && len(r.FailedVMs) == 0 && len(r.Left) == 0
}

// Run carries a plan out on a host, finishes it, or takes it back.
type Run struct {
	Via     *Path // the path of the change
	Other   *Path // asked when there is doubt; may be nil
	Plan    *Plan
	Journal *Journal
	Timeout time.Duration               // bounds each wait; zero: 2 min for an answer, 1 min for a host that is away
	Window  time.Duration               // from a change on, in which a host that is gone may come back by itself; zero: as Timeout says
	Knock   func(context.Context) error // proves that the host's management answers; may be nil
	On      func(Event)                 // may be nil

	start   time.Time
	result  Result
	tried   int               // passes over the virtual machines so far
	refused time.Time         // when the first pass ended
	reasons map[string]string // why a machine did not move
	sent    time.Time         // when the last change of the host went out
	at      []Kind            // where its answer leaves management; empty: anywhere
	reverts bool              // a change under way is taken back, by vCenter and the host, if it cuts the host off
	mu      sync.Mutex        // guards On
}

func (r *Run) begin() {
	if r.start.IsZero() {
		r.start = time.Now()
	}
	// A switch that the host is not a member of (any more) is not reached from
	// the host, and on it may be port groups that this run has made.
	for _, p := range []*Path{r.Via, r.Other} {
		if p != nil && r.Plan != nil {
			p.allDVS = r.Plan.Prepare != nil || r.Plan.Prepared != nil
		}
	}
}

func (r *Run) emit(e Event) {
	if r.On == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Elapsed = time.Since(r.start)
	r.On(e)
}

func (r *Run) step(step, state, format string, args ...any) {
	r.emit(Event{Event: "step", Step: step, State: state, Text: fmt.Sprintf(format, args...)})
}

func (r *Run) note(format string, args ...any) {
	r.emit(Event{Event: "note", Text: fmt.Sprintf(format, args...)})
}

// during runs f and says every ten seconds what it is that takes so long.
func (r *Run) during(what string, f func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(heartbeat)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				r.emit(Event{Event: "wait", Text: "still waiting for " + what})
			}
		}
	})
	f()
	close(done)
	wg.Wait()
}

func (r *Run) answerLimit() time.Duration { return cmpDuration(r.Timeout, defaultAnswer) }
func (r *Run) awayLimit() time.Duration   { return cmpDuration(r.Timeout, defaultAway) }

// answerBy bounds the wait for the answer to a change: with a Window part of it
// is left for looking at the host.
func (r *Run) answerBy() time.Duration {
	if r.Window > 0 {
		return min(r.answerLimit(), r.Window*4/5)
	}
	return r.answerLimit()
}

// returnBy is when a host that is away is given up.
func (r *Run) returnBy() time.Time {
	now := time.Now()
	t := now.Add(r.awayLimit())
	if r.Window == 0 {
		return t
	}
	from := r.sent
	if from.IsZero() { // it was seen since the change
		from = now
	}
	if end := from.Add(r.Window); end.Before(t) {
		return end
	}
	return t
}

func cmpDuration(a, b time.Duration) time.Duration {
	if a > 0 {
		return a
	}
	return b
}

// Apply carries the plan out. The error is for what happened before anything
// was sent; after that there is a Result, whatever else happened. A context
// that ends before the change stops the run; after it, the run goes on to its
// verdict, because a host between two states helps nobody.
func (r *Run) Apply(ctx context.Context, s *Snapshot) (*Result, error) {
	r.begin()
	if r.Plan.Prepare != nil {
		var err error
		if s, err = r.prepare(ctx); err != nil {
			if !r.result.Sent {
				return nil, err
			}
			r.result.Cause = err.Error()
			return r.undoAfterFailure(context.WithoutCancel(ctx))
		}
	}
	if err := ctx.Err(); err != nil {
		if r.result.Sent {
			r.result.Cause = "interrupted"
			return r.undoAfterFailure(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	var names []string
	for _, vm := range r.Plan.VMs {
		names = append(names, vm.Name)
	}
	// One record announces the change and the virtual machines that follow it:
	// they are dark until they have moved, and another sync would keep them so.
	if err := r.Journal.Append(Record{Kind: "act", Act: "change", Objects: append([]string{r.Plan.ToSwitch}, names...)}); err != nil {
		if r.result.Sent {
			r.result.Cause = err.Error()
			return r.undoAfterFailure(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	r.result.Sent = true
	r.reverts = s.VCenter && s.Rollback == "true"
	// The machines' edits go out side by side the moment the change is answered,
	// the first of them over the change's own connection.
	var ready sync.WaitGroup
	if c := r.Via.Client(); c != nil {
		ready.Go(func() { c.Warm(ctx, min(maxEdits, len(r.Plan.VMs))-1) })
	}
	watch := r.watch(ctx)
	ready.Wait()
	if r.Plan.Rest() {
		r.step("change", Started, "giving %s the port groups of the machines", r.Plan.ToSwitch)
	} else {
		r.step("change", Started, "moving %s and its uplink to %s", r.Plan.Goal.Vmk, r.Plan.ToSwitch)
	}
	err := r.update(ctx, s, r.Plan.Forward)
	r.answer("change", err)
	if err == nil {
		r.at = []Kind{r.Plan.To}
		r.step("change", Done, "the host took the change")
		ready.Go(func() { r.Via.open(ctx) })
		tasks := r.editVMs(ctx, s, forward)
		ready.Wait()
		s, err = r.verify(ctx, tasks)
	} else {
		r.step("change", Failed, "%s", plainError(err))
		s, err = r.afterDoubt(ctx, err)
	}
	r.outage(watch)
	if s == nil {
		return r.end(Unknown, err)
	}
	if !r.Plan.After.holds(s) {
		if err != nil {
			r.result.Cause = plainError(err)
		}
		return r.undoFrom(ctx, s)
	}
	return r.finishVMs(ctx, s)
}

// afterDoubt finds out what became of a change whose call failed, and where it
// landed sends the virtual machines after it.
func (r *Run) afterDoubt(ctx context.Context, cause error) (*Snapshot, error) {
	var call *esxi.CallError
	refused := errors.As(cause, &call) && call.Refused
	if refused && isRollback(call) {
		r.result.RolledBy, r.at = "vcenter", []Kind{r.Plan.From}
	} else if refused && r.reverts {
		// The change has failed as a whole, and with it goes back what it did:
		// "the task fails and the host reverts to the last valid configuration"
		// (vSphere Networking, on rollback).
		r.at = []Kind{r.Plan.From}
	}
	r.result.Cause = plainError(cause)
	r.step("verify", Started, "reading the host back on every path")
	s, err := r.settle(ctx, !refused)
	if err != nil {
		r.step("verify", Failed, "%s", plainError(err))
		return nil, err
	}
	if r.Plan.After.holds(s) {
		r.step("verify", Done, "the change was applied, although its answer says otherwise")
		r.result.RolledBy, r.result.Cause = "", ""
		return r.verify(ctx, r.editVMs(ctx, s, forward))
	}
	if r.Plan.Before.holds(s) {
		r.step("verify", Done, "the host is as it was")
	} else {
		r.step("verify", Failed, "the host is neither as it was nor as planned")
	}
	return s, cause
}

// isRollback recognises the fault by which vCenter says that it took a change
// back, in both of its spellings.
func isRollback(e *esxi.CallError) bool {
	return e.Fault == "NetworkDisruptedAndConfigRolledBack" || strings.Contains(strings.ToLower(e.Text), "rolled back")
}

// Resume finishes an interrupted migration or, where it cannot be finished,
// undoes it. It decides by what the host shows, not by how far the journal got.
func (r *Run) Resume(ctx context.Context) (*Result, error) {
	r.begin()
	s, err := r.look(ctx)
	if err != nil {
		return r.end(Unknown, err)
	}
	if r.Plan.Settled(s) && (r.Journal.Rescued() || !r.Journal.Undoing()) {
		return r.resumeRescued(context.WithoutCancel(ctx), s)
	}
	if r.Journal.Undoing() || !r.Plan.After.holds(s) {
		return r.undoFrom(context.WithoutCancel(ctx), s)
	}
	ctx = context.WithoutCancel(ctx)
	r.result.Sent = true
	if todo := r.pending(s, forward); len(todo) > 0 {
		if err := r.Journal.Append(Record{Kind: "act", Act: "vms", Objects: todo}); err != nil {
			return r.end(Unknown, err)
		}
	}
	return r.finishVMs(ctx, s)
}

// Rollback takes the migration back, whatever of it has happened.
func (r *Run) Rollback(ctx context.Context) (*Result, error) {
	r.begin()
	s, err := r.look(ctx)
	if err != nil {
		return r.end(Unknown, err)
	}
	return r.undoFrom(context.WithoutCancel(ctx), s)
}

// look reads the host on the first path that shows it.
func (r *Run) look(ctx context.Context) (*Snapshot, error) {
	r.step("verify", Started, "reading the host back")
	s, err := r.settle(ctx, false)
	if err != nil {
		r.step("verify", Failed, "%s", plainError(err))
		return nil, err
	}
	r.step("verify", Done, "%s", r.where(s))
	return s, nil
}

func (r *Run) where(s *Snapshot) string {
	v := s.vmkernel(r.Plan.Goal.Vmk)
	if v == nil {
		return "the host answers"
	}
	return fmt.Sprintf("the host answers; %s is on %s", v.Device, v.at(s))
}

// update sends one UpdateNetworkConfig. It is never repeated.
func (r *Run) update(ctx context.Context, s *Snapshot, c Config) error {
	r.sent, r.at = time.Now(), nil
	ctx, cancel := context.WithTimeout(ctx, r.answerBy())
	defer cancel()
	h, err := r.Via.Host(ctx)
	if err != nil {
		return err
	}
	r.during("the answer to the change", func() {
		_, err = methods.UpdateNetworkConfig(ctx, h.Client(), &types.UpdateNetworkConfig{
			This: s.NetworkSystem, Config: c.HostNetworkConfig, ChangeMode: string(types.HostConfigChangeModeModify),
		})
	})
	return err
}

func (r *Run) answer(act string, err error) {
	rec := Record{Kind: "answer", Act: act}
	if err != nil {
		rec.Error = plainError(err)
	}
	// The host is read back whatever the answer was, so a journal that cannot
	// be written now is noted and costs nothing.
	if err := r.Journal.Append(rec); err != nil {
		r.note("%s", err)
	}
}

// verify re-reads the host once on the path of the change, over new
// connections. Only when that fails or disagrees are both paths asked, until
// the window closes.
func (r *Run) verify(ctx context.Context, tasks []editTask) (*Snapshot, error) {
	r.step("verify", Started, "reading the host back over a new connection")
	sleep(ctx, min(time.Duration(max(len(tasks)-maxEdits, 0))*perEdit, mostWait))
	s, states, err := r.Via.reread(ctx, refs(tasks))
	if err == nil && r.Plan.After.holds(s) {
		r.sent = time.Time{}
		record(tasks, states)
		r.blame(tasks)
		r.step("verify", Done, "%s", r.where(s))
		return r.awaitTasks(ctx, s, tasks)
	}
	s, err = r.settle(ctx, false)
	if err != nil {
		r.step("verify", Failed, "%s", plainError(err))
		return nil, err
	}
	if r.Plan.After.holds(s) {
		r.step("verify", Done, "%s", r.where(s))
		return r.awaitTasks(ctx, s, tasks)
	}
	r.step("verify", Failed, "the host does not hold what it took: %s", strings.Join(r.Plan.After.mismatches(s), "; "))
	return s, errors.New("the host does not hold what it took")
}

// settle is settleAt for the change itself.
func (r *Run) settle(ctx context.Context, lost bool) (*Snapshot, error) {
	return r.settleAt(ctx, lost, &r.Plan.After)
}

// settleAt reads the host on all paths until one shows a state that can be
// believed, or the window closes. lost means that the answer to a change got
// lost: then the change, which aims at the layout, may still be on its way, and
// a host that is not there is believed only when that still holds later.
func (r *Run) settleAt(ctx context.Context, lost bool, aim *Layout) (*Snapshot, error) {
	var (
		s     *Snapshot
		err   error
		since time.Time // when it began to look as it does
		there bool      // at what the change aims at
	)
	began, deadline, look := time.Now(), r.returnBy(), ctx
	if r.Window > 0 { // a look that has begun must not outlast the window by much
		var cancel context.CancelFunc
		look, cancel = context.WithDeadline(ctx, later(deadline, time.Now().Add(lastLook)))
		defer cancel()
	}
	through := r.Via.Via == "vcenter"
	r.during("the host to answer on any path", func() {
		for {
			s, err = r.believe(look, deadline)
			switch {
			case err != nil:
				since = time.Time{}
			case !lost || aim.holds(s) && (!through || s.VCenter):
				return
			case since.IsZero() || there != aim.holds(s):
				since, there = time.Now(), aim.holds(s)
			case time.Since(since) >= r.stable(there):
				return
			}
			if left := time.Until(deadline); left <= 0 {
				if s == nil {
					r.result.Gone, r.result.At = true, r.whereabouts()
					err = fmt.Errorf("the host did not come back within %v: %w", time.Since(began).Round(100*time.Millisecond), err)
				}
				return
			} else if !sleep(ctx, min(rereadEvery, left)) {
				err = ctx.Err()
				return
			}
		}
	})
	if s != nil {
		r.result.Gone, r.sent = false, time.Time{}
	}
	if s != nil && err == nil {
		return s, nil
	}
	return nil, err
}

// stable is how long a host must look the same after an answer was lost. Where
// it looks untouched, the change may still be on its way. Where it has changed,
// but the vCenter that changed it cannot see it, the host is about to take the
// change back.
func (r *Run) stable(changed bool) time.Duration {
	if changed {
		return min(revertFor, r.awayLimit()*3/4)
	}
	return min(settleFor, r.awayLimit()/3)
}

// believe reads every path at the same time. The host's own word counts more
// than vCenter's, which may lag behind it; while both answer and disagree,
// vCenter has time until the deadline to catch up.
func (r *Run) believe(ctx context.Context, deadline time.Time) (*Snapshot, error) {
	paths := []*Path{r.Via}
	if r.Other != nil {
		paths = append(paths, r.Other)
	}
	snaps, errs := make([]*Snapshot, len(paths)), make([]error, len(paths))
	var wg sync.WaitGroup
	for i, p := range paths {
		wg.Go(func() { snaps[i], errs[i] = p.confirm(ctx) })
	}
	wg.Wait()
	var direct, through *Snapshot
	for i, p := range paths {
		switch {
		case snaps[i] == nil:
		case p.Via == "esxi":
			direct = snaps[i]
		default:
			through = snaps[i]
		}
	}
	switch {
	case direct == nil && through == nil:
		return nil, errors.Join(errs...)
	case direct != nil && through != nil:
		agree := r.Plan.After.holds(direct) == r.Plan.After.holds(through)
		if !agree && time.Now().Before(deadline) {
			return nil, errors.New("vCenter and the host show different things")
		}
		if r.Via.Via != "vcenter" {
			return direct, nil
		}
		if agree {
			return through, nil // its references are the ones the edits will use
		}
		r.Via, r.Other = r.Other, r.Via
		return direct, nil
	case direct != nil && r.Via.Via == "vcenter":
		// The host is there, but vCenter does not show it: what follows has to
		// go the direct way.
		r.Via, r.Other = r.Other, r.Via
		return direct, nil
	case through != nil && r.Via.Via == "esxi":
		r.Via, r.Other = r.Other, r.Via
		return through, nil
	case direct != nil:
		return direct, nil
	}
	return through, nil
}

// end closes the run with a verdict.
func (r *Run) end(o Outcome, cause error) (*Result, error) {
	r.result.Outcome = o
	if cause != nil && r.result.Cause == "" {
		r.result.Cause = plainError(cause)
	}
	left := slices.Clone(r.result.Left)
	for _, f := range r.result.FailedVMs {
		left = append(left, "virtual machine "+f)
	}
	if err := r.Journal.Append(Record{Kind: "end", Outcome: o, Left: left}); err != nil {
		r.note("%s", err)
	}
	return &r.result, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// whereabouts lists the kinds of switch on which management of a host that is
// gone may be; none says that nothing is known. A change that vCenter neither
// answered nor committed has been taken back by the host after revertFor.
func (r *Run) whereabouts() []Kind {
	if len(r.at) == 0 && r.reverts && !r.sent.IsZero() && time.Since(r.sent) >= revertFor {
		return []Kind{r.Plan.From}
	}
	return r.at
}

// plainError keeps a joined error on one line.
func plainError(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// sleep waits, and reports false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// watcher knocks at the host's management while it moves.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
	start  time.Time
	blind  bool
	lost   bool          // the last knock failed
	gap    time.Duration // the longest time between two answers with a failed knock between them
}

// watch starts knocking. Without a knock the time until stop is all there is.
func (r *Run) watch(ctx context.Context) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, done: make(chan struct{}), start: time.Now(), blind: r.Knock == nil}
	if !w.blind {
		knock, stop := context.WithTimeout(ctx, knockTimeout)
		w.blind = r.Knock(knock) != nil // an address that does not answer before tells nothing after
		stop()
	}
	if w.blind {
		close(w.done)
		w.start = time.Now()
		return w
	}
	go func() {
		defer close(w.done)
		last, failed := time.Now(), false
		for {
			knock, stop := context.WithTimeout(ctx, knockTimeout)
			err := r.Knock(knock)
			stop()
			now := time.Now()
			switch {
			case err == nil:
				if failed {
					w.gap = max(w.gap, now.Sub(last))
				}
				last, failed = now, false
			case ctx.Err() == nil:
				failed = true
			}
			if !sleep(ctx, knockEvery) {
				w.lost = failed
				if failed {
					w.gap = max(w.gap, time.Since(last))
				}
				return
			}
		}
	}()
	return w
}

// outage notes what the watcher saw.
func (r *Run) outage(w *watcher) {
	outage, known := w.stop()
	r.result.OutageKnown = known && (r.result.OutageKnown || !r.result.Cut)
	r.result.Outage += outage
	r.result.Cut = true
	if known && w.lost {
		r.note("the host does not answer at its own address from here")
	}
}

// stop returns the outage as seen from here. known is false when nobody
// watched: then it is the time the change took, an upper bound.
func (w *watcher) stop() (outage time.Duration, known bool) {
	w.cancel()
	<-w.done
	if w.blind {
		return time.Since(w.start), false
	}
	return w.gap, true
}
