package recipes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

const (
	ledWithin   = time.Second      // for a light to follow its lock key
	releaseTime = 2 * time.Second  // to let go of a key when the run has ended
	tellEvery   = 10 * time.Second // between two words about the same wait
	askEvery    = time.Second      // between two questions to the network
)

// ErrCapsLock: Caps Lock is on, or nobody knows, so a password might arrive
// inverted.
var ErrCapsLock = errors.New("caps lock is not known to be off")

// ErrLoggedOut: so much time went by without a key that the console may have
// logged out.
var ErrLoggedOut = errors.New("the console may have logged out in the meantime")

// ErrSurprise is an answer that no world gives which was left: something that is
// taken for known of the host is not so.
var ErrSurprise = errors.New("no world that was left fits what was seen")

// InputError is a run of a program that has a placeholder where a value
// belongs.
type InputError struct {
	Name   string
	Secret bool
}

func (e *InputError) Error() string {
	if e.Secret {
		return "secret " + e.Name + " has no value"
	}
	return "variable " + e.Name + " has no value"
}

// lights is a keyboard that knows the lock lights.
type lights interface {
	LEDs() (hid.LEDs, bool)
}

// capsSetter is a keyboard that can set Caps Lock by its light.
type capsSetter interface {
	SetCapsLock(ctx context.Context, on bool, within time.Duration) error
}

// prober is a keyboard that can ask the host for a sign of life.
type prober interface {
	Probe(ctx context.Context, lock hid.Usage, within time.Duration) error
}

// leaver is a keyboard that sees the host let go of it.
type leaver interface {
	HostLeft() (left, known bool)
}

// farKeyboard is a keyboard that may be at another machine: Play then types
// reports with the pauses kept there.
type farKeyboard interface {
	Far() bool
	Play(ctx context.Context, reports []hid.Report, p hid.Pace) (int, error)
}

// run is one typing of a program.
type run struct {
	*Program
	kb     Keyboard
	on     func(Event)
	belief dcui.Belief
	sent   int
	down   bool // a report that is no release was sent last
	step   int
	taken  map[int]bool // by step: the answer to a probe that goes two ways
	last   time.Time    // of the last key
}

// Run types the program and then looks whether the goal is reached. Nothing is
// sent unless the check is safe, or every risk of the verdict is in
// Vars.Accept; a world that the program was not compiled for cannot be
// accepted. A report is sent once; after one that was not delivered nothing is
// sent any more, and what to do about it is the keyboard's business. When ctx
// ends, a key that is down is released.
//
// on is called for each Event, from the same goroutine; it may be nil.
func (p *Program) Run(ctx context.Context, kb Keyboard, on func(Event)) error {
	v, err := p.Check(ctx)
	if err != nil {
		return err
	}
	if !v.accepted(p.vars.Accept, p.leaves()) {
		return &UnsafeError{v}
	}
	for o := range everyOp(p.ops) {
		if o.kind == opToken && !o.known {
			return &InputError{o.words[0].text, o.secret}
		}
	}
	if err := p.Fits(); err != nil {
		return err
	}
	if on == nil {
		on = func(Event) {}
	}
	r := &run{Program: p, kb: kb, on: on, belief: p.start, step: -1, taken: map[int]bool{}}
	steps := make([]string, len(p.recipe.Steps))
	for i, s := range p.recipe.Steps {
		steps[i] = r.said(&s)
	}
	r.on(Event{Kind: EventStart, Steps: steps, Belief: r.belief})
	for ops := p.ops; len(ops) > 0; {
		o := &ops[0]
		if err := r.do(ctx, o, len(ops) == 1 && !o.fork); err != nil {
			return r.fail(ctx, o, err)
		}
		if ops = ops[1:]; o.fork {
			ops = o.no
			if r.taken[o.step] {
				ops = o.yes
			}
		}
	}
	r.step = len(steps)
	for _, c := range p.recipe.Verify {
		if err := r.verify(ctx, c); err != nil {
			return err
		}
	}
	r.on(Event{Kind: EventDone, Step: len(steps), Reports: r.sent, Belief: r.belief, OK: true})
	return nil
}

// Fits returns an error where the time-out of a run is shorter than a pause of
// the recipe: to go on too early would be typing into another screen.
func (p *Program) Fits() error {
	for o := range everyOp(p.ops) {
		if d := p.vars.scale(o.after); (o.kind == opWait || o.kind == opThink) && p.vars.Timeout > 0 && d > p.vars.Timeout {
			return fmt.Errorf("step %d (%s) of recipe %s takes %s, and %s is the limit of each wait", o.step+1, p.recipe.Steps[o.step].Text, p.recipe.Name, d, p.vars.Timeout)
		}
	}
	return nil
}

// accepted says whether a run may begin.
func (v *Verdict) accepted(names []string, stopped bool) bool {
	if v.Verdict == Safe {
		return true
	}
	if stopped || len(v.Risks) == 0 {
		return false
	}
	for _, risk := range v.Risks {
		found := false
		for _, n := range names {
			found = found || slug(n) == risk
		}
		if !found {
			return false
		}
	}
	return true
}

// slug is the name of a risk as a flag takes it.
func slug(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), " ", "-") }

// fail ends a run within the keys.
func (r *run) fail(ctx context.Context, o *op, err error) error {
	e := &TypeError{Step: o.step, Text: r.recipe.Steps[o.step].Text, Sent: r.sent, Err: err}
	var d *undelivered
	if errors.As(err, &d) {
		e.Err = d.err
		var known *hid.DeliveryError
		e.Lost = !errors.As(d.err, &known) || known.State == hid.Pending
		// What the model tells of the end holds with the lost key in it.
		if e.Lost && !d.release {
			d.landed++
		}
		if o.kind != opToken {
			r.press(d.chords[:min(d.landed, len(d.chords))])
		}
	} else if r.down {
		// The keyboard still works: the host must not repeat the key for ever.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer cancel()
		if err := r.kb.Send(ctx, hid.Report{}); err != nil {
			e.Err = errors.Join(e.Err, fmt.Errorf("releasing the key: %w", err))
		}
	}
	for _, w := range r.belief.Worlds() {
		e.Effect = max(e.Effect, w.Effect())
	}
	return e
}

// undelivered is a report that the keyboard did not get rid of.
type undelivered struct {
	err     error
	chords  []hid.Chord
	landed  int  // of the chords, their keys at least
	release bool // the report lets go of a key
}

func (e *undelivered) Error() string { return e.err.Error() }
func (e *undelivered) Unwrap() error { return e.err }

func (r *run) do(ctx context.Context, o *op, last bool) error {
	for next := r.after(r.step); next <= o.step; next = r.after(next) {
		r.step = next
		r.on(Event{Kind: EventStep, Step: r.step, Text: r.said(&r.recipe.Steps[r.step]), Reports: r.sent, Belief: r.belief})
	}
	if (o.kind == opKeys || o.kind == opToken) && !r.last.IsZero() {
		if time.Since(r.last) > r.idle() && !r.belief.Idle().Equal(r.belief) {
			return fmt.Errorf("%s without a key: %w", time.Since(r.last).Round(time.Second), ErrLoggedOut)
		}
	}
	switch o.kind {
	case opKeys:
		if err := r.keys(ctx, o); err != nil {
			return err
		}
	case opToken:
		if o.secret {
			if err := r.capsKnown(); err != nil {
				return err
			}
		}
		if err := r.send(ctx, o, o.chords); err != nil {
			return err
		}
		// The layout is one that Compile has found, so there is no error.
		r.belief, _ = r.belief.Enter(o.token)
		r.tell(o, "${"+o.words[0].text+"}", dcui.Evidence{})
	case opCaps:
		if err := r.capsOff(ctx, o); err != nil {
			return err
		}
	case opWait, opThink:
		what := "a pause of the recipe"
		if o.kind == opThink {
			what = "time to stop: " + r.next(o)
		}
		d := r.vars.scale(o.after)
		return r.wait(ctx, d, what)
	case opHold:
		return r.hold(ctx, o)
	case opProbe:
		if o.fork {
			return r.fork(ctx, o)
		}
		for _, c := range o.cond {
			if err := r.probe(ctx, c); err != nil {
				return err
			}
		}
	}
	if last {
		return nil
	}
	return r.wait(ctx, r.vars.scale(o.after), "the console to draw its screen")
}

// next says what comes after a pause to think in.
func (r *run) next(o *op) string {
	if o.step+1 < len(r.recipe.Steps) {
		return "then " + r.recipe.Steps[o.step+1].Text
	}
	return "then the end"
}

func (r *run) idle() time.Duration {
	if r.vars.Idle > 0 {
		return r.vars.Idle
	}
	return dcui.HardenedIdle
}

// keys types what is known, one character or chord after the other, and tells
// each.
func (r *run) keys(ctx context.Context, o *op) error {
	if len(o.words) == 1 && o.words[0].kind == textWord {
		for _, c := range o.words[0].text {
			chords, err := r.layout.Chords(string(c))
			if err != nil {
				return err
			}
			if err := r.send(ctx, o, chords); err != nil {
				return err
			}
			ev := r.press(chords)
			r.tell(o, quote(string(c)), ev)
		}
		return nil
	}
	if err := r.send(ctx, o, o.chords); err != nil {
		return err
	}
	r.tell(o, strings.Join(keyWords(o.words), " "), r.press(o.chords))
	return nil
}

func (r *run) press(chords []hid.Chord) (weakest dcui.Evidence) {
	for _, k := range chords {
		var ev dcui.Evidence
		r.belief, ev = r.belief.Step(k)
		if weakest.Source == "" || ev.Grade > weakest.Grade {
			weakest = ev
		}
	}
	return weakest
}

func (r *run) tell(o *op, key string, ev dcui.Evidence) {
	r.on(Event{Kind: EventKey, Step: o.step, Key: key, Reports: r.sent, Belief: r.belief, Evidence: ev})
}

// send hands the reports of chords to the keyboard, at the pace.
func (r *run) send(ctx context.Context, o *op, chords []hid.Chord) error {
	if kb, ok := r.kb.(farKeyboard); ok && kb.Far() {
		return r.sendFar(ctx, kb, o, chords)
	}
	landed := 0
	for _, rep := range hid.Reports(chords) {
		pause := o.pace.Lead
		switch {
		case len(rep.Keys()) > 0:
			pause = o.pace.Hold
		case rep == hid.Report{}:
			pause = o.pace.Gap
		}
		if err := r.report(ctx, rep, chords, landed); err != nil {
			return err
		}
		if len(rep.Keys()) > 0 {
			landed++
		}
		if err := sleep(ctx, r.vars.scale(pause)); err != nil {
			return err
		}
	}
	return nil
}

// sendFar hands over key by key: how long one stays down is then not up to the
// connection.
func (r *run) sendFar(ctx context.Context, kb farKeyboard, o *op, chords []hid.Chord) error {
	reports := hid.Reports(chords)
	pace := hid.Pace{Hold: r.vars.scale(o.pace.Hold), Gap: r.vars.scale(o.pace.Gap), Lead: r.vars.scale(o.pace.Lead)}
	landed := 0
	for len(reports) > 0 {
		key := reports[:1+slices.Index(reports, hid.Report{})]
		if err := ctx.Err(); err != nil {
			return err
		}
		before := time.Now()
		n, err := kb.Play(ctx, key, pace)
		for _, rep := range key[:n] {
			if len(rep.Keys()) > 0 {
				landed++
			}
		}
		r.sent += n
		if n > 0 {
			r.last = before
		}
		if err != nil {
			return &undelivered{err, chords, landed, n < len(key) && len(key[n].Keys()) == 0}
		}
		reports = reports[len(key):]
	}
	return nil
}

func (r *run) report(ctx context.Context, rep hid.Report, chords []hid.Chord, landed int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before := time.Now()
	if err := r.kb.Send(ctx, rep); err != nil {
		return &undelivered{err, chords, landed, len(rep.Keys()) == 0}
	}
	r.sent++
	r.down = rep != hid.Report{}
	r.last = before // the key may have landed as early as that
	return nil
}

// scale divides a pause by the speed.
func (v *Vars) scale(d time.Duration) time.Duration {
	switch s := v.Speed; {
	case s <= 0:
		return d
	case math.IsInf(s, 1):
		return 0
	default:
		return time.Duration(float64(d) / s)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait sleeps, and says what for where it takes long.
func (r *run) wait(ctx context.Context, d time.Duration, what string) error {
	start := time.Now()
	for d > 0 {
		left := d - time.Since(start)
		if left <= 0 {
			return nil
		}
		if d >= time.Second {
			r.waiting(what, time.Since(start), d)
		}
		if err := sleep(ctx, min(left, tellEvery)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *run) waiting(what string, so, most time.Duration) {
	r.on(Event{Kind: EventWait, Step: r.step, Text: what, For: so, Max: most, Reports: r.sent, Belief: r.belief})
}

// hold keeps one key down.
func (r *run) hold(ctx context.Context, o *op) error {
	reports := hid.Reports(o.chords)
	longest := 0
	for i, rep := range reports {
		if len(rep.Keys()) > 0 {
			longest = i
		}
	}
	for i, rep := range reports {
		landed := 0
		if i > longest {
			landed = len(o.chords)
		}
		if err := r.report(ctx, rep, o.chords, landed); err != nil {
			return err
		}
		if i == longest {
			if err := r.wait(ctx, r.vars.scale(o.after), o.chords[0].String()+" is held down"); err != nil {
				return err
			}
		} else if err := sleep(ctx, r.vars.scale(o.pace.Lead)); err != nil {
			return err
		}
	}
	r.tell(o, o.chords[0].String(), r.press(o.chords))
	return nil
}

// capsKnown refuses to type a secret where the light says that Caps Lock is on.
func (r *run) capsKnown() error {
	kb, ok := r.kb.(lights)
	if !ok {
		return nil
	}
	if on, known := kb.LEDs(); known && on&hid.CapsLock != 0 && r.capsAre("off") {
		return fmt.Errorf("its light is on: %w", ErrCapsLock)
	}
	return nil
}

func (r *run) capsAre(state string) bool {
	return r.belief.All(func(w dcui.World) bool { v, ok := w.Now("caps"); return ok && v == state })
}

// capsOff reads Caps Lock from its light and turns it off.
func (r *run) capsOff(ctx context.Context, o *op) error {
	if r.capsAre("off") {
		return nil
	}
	switch kb := r.kb.(type) {
	case capsSetter:
		if err := kb.SetCapsLock(ctx, false, ledWithin); err != nil {
			return fmt.Errorf("%w: %w", ErrCapsLock, err)
		}
	case lights:
		on, known := kb.LEDs()
		if !known {
			return fmt.Errorf("the host shows no lights: %w", ErrCapsLock)
		}
		if on&hid.CapsLock != 0 {
			if err := r.send(ctx, o, []hid.Chord{{Key: hid.KeyCapsLock}}); err != nil {
				return err
			}
			if on, known = kb.LEDs(); !known || on&hid.CapsLock != 0 {
				return fmt.Errorf("its light stays on: %w", ErrCapsLock)
			}
		}
	default:
		return fmt.Errorf("this keyboard has no lights: %w", ErrCapsLock)
	}
	r.belief = r.belief.CapsOff()
	return nil
}

// after gives the step that comes after one, past the way that is not taken.
func (r *run) after(step int) int {
	next := step + 1
	for i := range r.recipe.Steps[:max(step+1, 0)] {
		s := &r.recipe.Steps[i]
		yes, asked := r.taken[i]
		switch no := i + 1 + s.then; {
		case !s.fork || next > i+s.then+s.els:
		case !asked: // it was for other hosts
			next = i + 1 + s.then + s.els
		case yes && next >= no:
			next = no + s.els
		case !yes && next < no:
			next = no
		}
	}
	return next
}

// fork asks which way to go on.
func (r *run) fork(ctx context.Context, o *op) error {
	a, err := r.answer(ctx, o.cond[0])
	if err != nil {
		return err
	}
	r.taken[o.step] = a.yes // a way that is shut has no world left, which learn says
	return r.learn(a)
}

func so(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// probe asks for a sign of life, and stops the run without one.
func (r *run) probe(ctx context.Context, c Condition) error {
	a, err := r.answer(ctx, c)
	if err != nil {
		return err
	}
	if err := r.learn(a); err != nil {
		return err
	}
	if !a.yes {
		return &VerifyError{a.c, a.predicted, a.why}
	}
	return nil
}

func (r *run) verify(ctx context.Context, c Condition) error {
	a, err := r.answer(ctx, c)
	if err != nil {
		return err
	}
	// All is typed by now: that it holds is what counts, expected or not.
	_ = r.learn(a)
	if !a.yes {
		return &VerifyError{a.c, a.predicted, a.why}
	}
	return nil
}

// answer is what came of asking for a condition.
type answer struct {
	c         Condition // its variables filled in
	yes       bool
	predicted bool  // by the model
	unsettled bool  // the model says both
	why       error // why not
}

// learn takes an answer for evidence, and tells it.
func (r *run) learn(a answer) error {
	whole, left := r.belief, r.belief
	if !a.unsettled {
		whole, left = given(r.belief, a.c, a.yes)
	}
	e := Event{Kind: EventVerify, Step: r.step, Text: a.c.String(), OK: a.yes, Predict: a.predicted, Reports: r.sent, Before: whole.Len(), Belief: r.belief}
	if left.Len() == 0 {
		r.on(e)
		return fmt.Errorf("%w: %s: %s", ErrSurprise, a.c, so(a.yes))
	}
	if left.Len() < whole.Len() {
		r.belief = left
		e.Belief = left
	} else {
		e.Before = r.belief.Len()
	}
	r.on(e)
	return nil
}

// answer asks the keyboard, the network, or the model where nobody does. The
// error is one that ends the run.
func (r *run) answer(ctx context.Context, c Condition) (answer, error) {
	c.Host = r.fill(c.Host)
	a := answer{c: c}
	if kb, ok := r.kb.(prober); ok && c.Kind == "led" {
		err := kb.Probe(ctx, hid.KeyNumLock, ledWithin)
		if a.yes = err == nil; !a.yes {
			a.why = err
			if !errors.Is(err, hid.ErrNoEcho) || ctx.Err() != nil {
				return a, err
			}
		}
		return a, nil
	}
	if kb, ok := r.kb.(leaver); ok && c.Kind == "usb-reset" {
		if _, known := kb.HostLeft(); known {
			return r.ask(ctx, a)
		}
	}
	ended := r.step == len(r.recipe.Steps)
	says, ok := r.vars.Prober.(interface{ Predicted() bool })
	simulated := ok && says.Predicted()
	if p := r.vars.Prober; p != nil && (c.Network() || c.Kind == "icmp" || c.asksSSH() && !ended || simulated && ended) {
		if simulated {
			yes, err := p.Probe(ctx, c) // nothing comes of waiting
			a.yes, a.predicted = yes, true
			return a, err
		}
		a, err := r.ask(ctx, a)
		if !errors.Is(err, ErrCannotTell) {
			var known *VerifyError
			if err != nil && !errors.As(err, &known) {
				err = &VerifyError{a.c, a.predicted, err}
			}
			return a, err
		}
	}
	a.predicted = true
	b := sorted(r.belief, c)
	a.yes = b.All(func(w dcui.World) bool { return holds(w, c) })
	a.unsettled = !a.yes && b.Where(func(w dcui.World) bool { return holds(w, c) }).Len() > 0
	if a.unsettled && r.step < len(r.recipe.Steps) && r.recipe.Steps[r.step].fork {
		return a, &VerifyError{c, true, errors.New("nobody can be asked, and by the model it may be so or not")}
	}
	return a, nil
}

// ask asks the network, or the keyboard of its host, until a condition holds, or is seen not to, or its time
// is over.
func (r *run) ask(ctx context.Context, a answer) (answer, error) {
	within := a.c.Within
	if within <= 0 {
		within = DefaultWithin
	}
	if t := r.vars.Timeout; t > 0 {
		within = min(within, t)
	}
	questions := []Condition{a.c}
	if a.c.asksSSH() {
		open, closed := a.c, a.c
		open.Kind, open.Fact, open.Value, open.TCP = "reachable", "", "", 22
		closed.Kind, closed.Fact, closed.Value, closed.TCP = "closed", "", "", 22
		questions = []Condition{open, closed}
	}
	start, told := time.Now(), time.Time{}
	asking, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		if told.IsZero() || time.Since(told) > tellEvery-askEvery {
			told = time.Now()
			r.waiting(a.c.String(), time.Since(start), within)
		}
		for i, q := range questions {
			ok, err := r.askOnce(asking, q, start, within, &told)
			switch {
			case ok && len(questions) == 1:
				a.yes = true
				return a, nil
			case ok:
				a.yes = (i == 0) == (a.c.Value == "on")
				return a, nil
			case err != nil && asking.Err() == nil:
				return a, err
			}
		}
		if sleep(asking, askEvery) != nil {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return a, err
	}
	a.why = fmt.Errorf("not within %s", within)
	if len(questions) > 1 {
		return a, &VerifyError{a.c, false, fmt.Errorf("port 22 neither answered nor was refused within %s", within)}
	}
	return a, nil
}

// askOnce asks the keyboard or the Prober, and goes on saying what is waited for where its
// answer takes long.
func (r *run) askOnce(ctx context.Context, c Condition, start time.Time, within time.Duration, told *time.Time) (bool, error) {
	if c.Kind == "usb-reset" {
		left, _ := r.kb.(leaver).HostLeft()
		return left, nil
	}
	type reply struct {
		ok  bool
		err error
	}
	done := make(chan reply, 1)
	go func() {
		ok, err := r.vars.Prober.Probe(ctx, c)
		done <- reply{ok, err}
	}()
	silence := time.NewTimer(time.Until(told.Add(tellEvery)))
	defer silence.Stop()
	for {
		select {
		case a := <-done:
			return a.ok, a.err
		case <-silence.C:
			*told = time.Now()
			silence.Reset(tellEvery)
			r.waiting(c.String(), time.Since(start), within)
		case <-ctx.Done():
			// A Prober hears ctx too, and is asked one thing at a time.
			select {
			case <-done:
			case <-time.After(time.Second):
			}
			return false, ctx.Err()
		}
	}
}

// said is the text of a step, with addresses filled in.
func (r *run) said(s *Step) string {
	if s.Kind != StepProbe {
		return s.Text
	}
	return r.fill(s.Text)
}

// fill puts the values of variables into a host's address.
func (r *run) fill(s string) string {
	for _, v := range r.recipe.Vars {
		value, ok := r.vars.Values[v.Name]
		if !ok {
			value = v.Default
		}
		s = strings.ReplaceAll(s, "${"+v.Name+"}", value)
	}
	return s
}
