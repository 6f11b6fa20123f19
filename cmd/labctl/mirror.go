package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// runView shows a run as it goes: as a picture on a terminal, as lines without
// one, as events with -o json. All three tell the same events.
type runView struct {
	a     *app
	job   *job
	speed float64 // what pauses are divided by

	mu       sync.Mutex
	live     *live
	counter  *counter
	stop     chan struct{}
	facts    map[string]string // of the host that the picture shows
	steps    []string
	step     int // under way; len(steps) when all are done
	key      string
	keys     int      // delivered
	inStep   []string // key words of this step
	belief   dcui.Belief
	world    dcui.World
	views    int
	evidence dcui.Evidence
	waiting  string
	waited   time.Duration
	most     time.Duration
	verified []ranVerify
	skipped  map[int]bool // steps on the way of a probe that was not taken
	before   int          // worlds before the last answer; 0 when a key came after it
	repeated string       // key of a line that is not out yet
	repeats  int
	led      string // where it led
	ended    string // what came of it
	failed   bool
}

// newRunView decides how the run is shown. The model needs no pauses, a person
// who watches it does.
func (a *app) newRunView(j *job, f *running) (*runView, error) {
	v := &runView{a: a, job: j, speed: f.speed, step: -1}
	var err error
	if v.facts, err = simulated(j.recipe, j.facts, j.verdict); err != nil {
		return nil, usagef("%w", err)
	}
	if !a.json() && !f.noMirror {
		if l, ok := a.startLive(); ok {
			v.live, v.counter, v.stop = l, newCounter(), make(chan struct{})
			go v.run(v.stop)
		}
	}
	switch {
	case !j.sim:
		v.speed = 1
	case v.speed == 0 && v.live == nil:
		v.speed = instant
	case v.speed == 0:
		v.speed = 1
	}
	return v, nil
}

// run redraws while nothing happens: for a wait, a new size, a line to say.
func (v *runView) run(stop chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case c := <-v.counter.answer:
			v.mu.Lock()
			if c.keys == v.keys {
				v.views = c.views
			}
			v.mu.Unlock()
		case <-tick.C:
		}
		v.mu.Lock()
		v.draw()
		v.mu.Unlock()
	}
}

// show takes one event.
func (v *runView) show(e recipes.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.take(e)
	switch {
	case v.live != nil:
		v.draw()
	case v.a.json():
		v.a.event(v.event(e))
	default:
		v.line(e)
	}
}

func (v *runView) take(e recipes.Event) {
	if e.Belief.Len() > 0 {
		v.belief = e.Belief
		v.world = v.pick(e.Belief)
	}
	switch e.Kind {
	case recipes.EventStart:
		v.steps, v.step = e.Steps, 0
	case recipes.EventStep:
		v.advance(e.Step)
		v.inStep, v.waiting = nil, ""
	case recipes.EventKey:
		v.keys++
		v.key, v.evidence, v.waiting, v.views, v.before = e.Key, e.Evidence, "", 0, 0
		v.inStep = append(v.inStep, e.Key)
		if v.live != nil {
			v.counter.count(v.belief, v.keys)
		}
	case recipes.EventWait:
		v.waiting, v.waited, v.most = e.Text, e.For, e.Max
	case recipes.EventVerify:
		v.advance(min(e.Step, len(v.steps)))
		v.waiting, v.before = "", e.Before
		if e.OK || e.Step >= len(v.steps) {
			v.verified = append(v.verified, ranVerify{e.Text, e.OK, e.Predict})
		}
		if v.live != nil && e.Before > v.belief.Len() {
			v.views = 0
			v.counter.count(v.belief, v.keys)
		}
	case recipes.EventDone:
		v.advance(len(v.steps))
		v.waiting = ""
	}
}

// advance goes to a step. Each begins with an event, except those that are not
// on the way.
func (v *runView) advance(to int) {
	for i := v.step + 1; i < to; i++ {
		if v.skipped == nil {
			v.skipped = map[int]bool{}
		}
		v.skipped[i] = true
	}
	v.step = to
}

// pick gives the world to show: that of the usual host, or of the simulated one,
// through the whole run.
func (v *runView) pick(b dcui.Belief) dcui.World {
	for name, value := range v.facts {
		if narrower, err := b.Only(name, value); err == nil && narrower.Len() > 0 {
			b = narrower
		}
	}
	return b.Worlds()[0]
}

// finish shows how it ended and gives the terminal back. The last picture stays
// on it.
func (v *runView) finish(r *ran, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.live == nil {
		v.flushLine()
		return
	}
	v.ended, v.failed, v.waiting = r.Outcome, err != nil, ""
	if err == nil {
		v.step = len(v.steps)
	}
	close(v.stop)
	v.draw()
	l := v.live
	v.live = nil
	w, h := l.size()
	// The result and the prompt come below it, and what went wrong.
	below := 2 + len(r.Verify)
	if err != nil {
		below += 3
	}
	lines := v.picture(w, max(h-below, min(h-1, 12)), l.ability).lines(l.ability)
	close(v.counter.ask)
	l.end()
	for _, line := range lines {
		fmt.Fprintln(l.out, line)
	}
}

// screens names the screens on which the worlds stand.
func screenNames(b dcui.Belief) []string {
	var names []string
	for _, w := range b.Worlds() {
		if at := w.At(); !slices.Contains(names, at) {
			names = append(names, at)
		}
	}
	slices.Sort(names)
	return names
}

// worstOf is the worst effect in any world.
func worstOf(b dcui.Belief) dcui.Effect {
	worst := dcui.Nothing
	for _, w := range b.Worlds() {
		worst = max(worst, w.Effect())
	}
	return worst
}

// runEvent is one line of a run with -o json.
type runEvent struct {
	Event     string   `json:"event"` // start, step, key, wait, verify, done
	Steps     []string `json:"steps,omitempty"`
	Step      int      `json:"step,omitempty"` // from 1
	Text      string   `json:"text,omitempty"`
	Key       string   `json:"key,omitempty"`
	Reports   int      `json:"reports,omitempty"`
	Screens   []string `json:"screens,omitempty"` // where the worlds stand, predicted
	Effect    string   `json:"effect,omitempty"`  // the worst so far, predicted
	Worlds    int      `json:"worlds,omitempty"`  // told apart so far
	Before    int      `json:"worldsBefore,omitempty"`
	Evidence  string   `json:"evidence,omitempty"`
	Source    string   `json:"source,omitempty"`
	OK        *bool    `json:"ok,omitempty"`
	Predicted bool     `json:"predicted,omitempty"`
	WaitedMs  int64    `json:"waitedMs,omitempty"`
	MaxMs     int64    `json:"maxMs,omitempty"`
}

func (v *runView) event(e recipes.Event) runEvent {
	out := runEvent{Event: string(e.Kind), Steps: e.Steps, Text: e.Text, Key: e.Key, Reports: e.Reports}
	switch e.Kind {
	case recipes.EventStep:
		out.Step = e.Step + 1
		if e.Step < len(v.steps) && out.Text == "" {
			out.Text = v.steps[e.Step]
		}
	case recipes.EventKey:
		out.Step = e.Step + 1
		out.Screens, out.Effect, out.Worlds = screenNames(v.belief), worstOf(v.belief).String(), v.belief.Len()
		if e.Evidence.Source != "" { // a stand-in for text rests on nothing
			out.Evidence, out.Source = e.Evidence.Grade.String(), e.Evidence.Source
		}
	case recipes.EventWait:
		out.WaitedMs, out.MaxMs = e.For.Milliseconds(), e.Max.Milliseconds()
	case recipes.EventVerify:
		out.OK, out.Predicted = &e.OK, e.Predict
		if e.Before > e.Belief.Len() {
			out.Before, out.Worlds = e.Before, e.Belief.Len()
		}
	}
	return out
}

// line tells an event to somebody without a terminal: a line for each step, and
// one for what it led to.
//
// A key that repeats is one line, which comes with the next other event.
func (v *runView) line(e recipes.Event) {
	if e.Kind == recipes.EventKey && v.repeats > 0 && v.repeated == e.Key {
		v.repeats++
		v.led = v.where()
		return
	}
	v.flushLine()
	switch e.Kind {
	case recipes.EventStep:
		v.a.progress("[%d/%d] %s", e.Step+1, len(v.steps), v.steps[e.Step])
	case recipes.EventKey:
		v.repeated, v.repeats, v.led = e.Key, 1, v.where()
	case recipes.EventWait:
		v.a.progress("      %s", v.waitText())
	case recipes.EventVerify:
		said := "not so"
		if e.OK {
			said = "so"
		}
		if e.Predict {
			said += ", predicted"
		}
		what := "verify"
		if e.Step < len(v.steps) {
			what = "      probe"
		}
		v.a.progress("%s: %s: %s%s", what, e.Text, said, gone(e))
	}
}

// gone says how many worlds an answer has left.
func gone(e recipes.Event) string {
	if e.Before <= e.Belief.Len() {
		return ""
	}
	return fmt.Sprintf("; %s, %d after it", worldCount(e.Before), e.Belief.Len())
}

func (v *runView) flushLine() {
	if v.repeats == 0 {
		return
	}
	word := v.repeated
	if v.repeats > 1 {
		word += fmt.Sprintf("×%d", v.repeats)
	}
	v.repeats = 0
	v.a.progress("      %s → %s", word, v.led)
}

// where says on which screen the host is by now.
func (v *runView) where() string {
	names := screenNames(v.belief)
	if len(names) > 3 {
		return fmt.Sprintf("one of %d screens", len(names))
	}
	s := strings.Join(names, " or ")
	if sel := v.world.Selected(); len(names) == 1 && sel != "" {
		s += ", " + sel
	}
	if w := worstOf(v.belief); w != dcui.Nothing {
		s += " (" + w.String() + ")"
	}
	return s
}

func (v *runView) waitText() string {
	s := "waiting for " + v.waiting
	if v.waited >= time.Second {
		s += fmt.Sprintf(", %v so far", v.waited.Round(time.Second))
	}
	if v.most > 0 {
		s += fmt.Sprintf(", at most %v", v.most.Round(time.Second))
	}
	return s
}

func (v *runView) draw() {
	if v.live == nil {
		return
	}
	w, h := v.live.size()
	v.live.draw(v.picture(w, h, v.live.ability))
}

// sidebar is the width of the step list beside the screen.
const sidebar = 34

// picture draws the run: the steps, the screen that the host should show, and
// what is known about it.
func (v *runView) picture(w, h int, ab ability) *canvas {
	c := newCanvas(w, h)
	wide := w >= dcui.Columns+2+sidebar && h >= dcui.Rows+3
	x, foot := 0, 3
	switch {
	case h < 10:
		foot = 1
	case !wide && h >= dcui.Rows+6:
		foot = 4
	}
	via := v.job.name()
	if !v.job.sim {
		via += " by " + v.job.uri
	}
	top := 1
	if h < 10 {
		top = 0
	} else {
		end := c.put(1, 0, w-2, lookBold, v.job.recipe.Name)
		c.put(end, 0, w-1-end, look{}, " · "+via)
	}
	if wide {
		x = sidebar
		v.drawSteps(c, 1, top+1, sidebar-2, h-top-1)
	}
	room := h - top - foot
	framed := wide || w >= dcui.Columns+2 && room >= dcui.Rows+2
	if wide {
		room = min(h-top, dcui.Rows+2)
	}
	sx, sy, sw, sh := x, top, w-x, room
	if framed {
		frame(c, x, top, dcui.Columns+2, min(room, dcui.Rows+2), v.heading())
		sx, sy, sw, sh = x+1, top+1, dcui.Columns, min(room, dcui.Rows+2)-2
	}
	if v.belief.Len() > 0 {
		screen := v.world.Render()
		c.blit(sx, sy, sw, sh, &screen)
	}
	if wide {
		v.drawFacts(c, 1, max(top+2+len(v.steps)+2, top+dcui.Rows-9), sidebar-2)
		if y := top + dcui.Rows + 2; y < h {
			c.put(x+1, y, w-x-2, lookDim, v.evidenceLine())
			c.put(1, y, sidebar-2, lookWatch, v.message())
		}
		return c
	}
	y := h - foot
	v.drawStepLine(c, 0, y, w)
	if foot > 1 {
		c.put(0, y+1, w, look{}, v.beliefLine(framed, w))
		line := v.evidenceLine()
		if m := v.message(); m != "" {
			line = m
		} else if v.waiting != "" {
			line = v.waitText()
		}
		c.put(0, y+2, w, lookDim, line)
	}
	if foot > 3 {
		v.drawBar(c, 0, y+3, min(w, 60))
	}
	return c
}

// heading names the screen, and never lets a prediction pass for a sight.
func (v *runView) heading() string {
	if v.belief.Len() == 0 {
		return "predicted screen"
	}
	return "predicted screen: " + v.world.At()
}

// message is what was last said beside the picture, as after an interrupt.
func (v *runView) message() string {
	if v.live == nil {
		return ""
	}
	return strings.TrimPrefix(v.live.kept.latest(), "labctl: ")
}

// stepLook gives mark and look of a step.
func (v *runView) stepLook(i int) (mark string, l look) {
	switch {
	case i < v.step && v.skipped[i]:
		return "–", lookDim
	case i < v.step:
		return "✓", lookGood
	case i == v.step && v.failed:
		return "✗", lookBad
	case i == v.step:
		return "▸", lookBold
	}
	return " ", lookDim
}

// drawSteps lists the steps, those around the present one where there are too
// many.
func (v *runView) drawSteps(c *canvas, x, y, w, h int) {
	room := max(h-14, 3)
	first := 0
	if len(v.steps) > room {
		first = min(max(0, v.step-room/2), len(v.steps)-room)
	}
	for i := first; i < len(v.steps) && i < first+room; i++ {
		mark, l := v.stepLook(i)
		c.put(x, y, 1, l, mark)
		text := v.steps[i]
		if utf8.RuneCountInString(text) > w-2 {
			text = string([]rune(text)[:w-3]) + "…"
		}
		if l == lookGood {
			l = look{}
		}
		c.put(x+2, y, w-2, l, text)
		y++
	}
	for _, r := range v.verified {
		mark, l := "✓", lookGood
		if !r.OK {
			mark, l = "✗", lookBad
		}
		c.put(x, y, 1, l, mark)
		text := r.Condition
		if r.Predicted {
			text += " (predicted)"
		}
		for _, s := range wrap(text, w-2) {
			c.put(x+2, y, w-2, look{}, s)
			y++
		}
	}
}

// drawFacts says beside the screen what is known about it.
func (v *runView) drawFacts(c *canvas, x, y, w int) {
	row := func(name string, l look, text string) {
		c.put(x, y, 8, lookDim, name)
		c.put(x+8, y, w-8, l, text)
		y++
	}
	row("key", lookBold, v.key)
	row("keys", look{}, fmt.Sprint(v.keys))
	effect, l := "nothing done", lookGood
	if e := worstOf(v.belief); e != dcui.Nothing {
		effect, l = e.String(), lookWatch
	}
	row("effect", l, effect)
	if v.belief.Len() > 0 {
		if v.before > v.belief.Len() {
			row("worlds", lookGood, fmt.Sprintf("%d of %d left", v.belief.Len(), v.before))
		} else {
			row("worlds", look{}, fmt.Sprintf("%d told apart", v.belief.Len()))
		}
	}
	switch v.views {
	case 0:
		row("screens", lookDim, "…")
	case 1:
		row("screens", lookGood, "1: this is it")
	default:
		row("screens", look{}, fmt.Sprintf("%d possible", v.views))
	}
	y++
	v.drawBar(c, x, y, w)
	y += 2
	if v.waiting != "" {
		for _, s := range wrap(v.waitText(), w) {
			c.put(x, y, w, lookWatch, s)
			y++
		}
	}
	if v.ended != "" {
		l := lookGood
		if v.failed {
			l = lookBad
		}
		c.put(x, y, w, l, v.ended)
	}
}

// drawBar shows how many of the steps are done.
func (v *runView) drawBar(c *canvas, x, y, w int) {
	if len(v.steps) == 0 || w < 10 {
		return
	}
	count := fmt.Sprintf(" %d/%d", max(0, min(v.step, len(v.steps))), len(v.steps))
	room := w - len(count)
	full := room * max(0, min(v.step, len(v.steps))) / len(v.steps)
	c.put(x, y, room, lookGood, strings.Repeat("█", full))
	c.put(x+full, y, room-full, lookDim, strings.Repeat("░", room-full))
	c.put(x+room, y, len(count), lookDim, count)
}

// drawStepLine is the step list of a small terminal: the step under way.
func (v *runView) drawStepLine(c *canvas, x, y, w int) {
	end := x + w
	switch i := v.step; {
	case v.ended != "":
		l := lookGood
		if v.failed {
			l = lookBad
		}
		x = c.put(x, y, end-x, l, v.ended)
	case i >= 0 && i < len(v.steps):
		mark, l := v.stepLook(i)
		x = c.put(x, y, end-x, l, fmt.Sprintf("%s %d/%d %s", mark, i+1, len(v.steps), v.steps[i]))
	case len(v.steps) > 0:
		x = c.put(x, y, end-x, lookGood, fmt.Sprintf("✓ all %d steps", len(v.steps)))
	}
	if v.key != "" {
		c.put(x, y, end-x, lookBold, "   "+v.key)
	}
}

// beliefLine says what is known of the screen, in as many words as a terminal
// has room for: that it is predicted is among them in any width.
func (v *runView) beliefLine(framed bool, width int) string {
	if v.belief.Len() == 0 {
		return ""
	}
	at, done, worlds := "predicted: "+v.world.At(), worstOf(v.belief).String()+" done", worldCount(v.belief.Len())
	screens, possible := "", ""
	switch v.views {
	case 0:
	case 1:
		screens, possible = "1 screen", "1 screen"
	default:
		screens = fmt.Sprintf("%d screens", v.views)
		possible = screens + " possible"
	}
	line := ""
	for _, parts := range [][]string{{v.heading(), done, worlds, possible}, {at, done, worlds, screens}, {at, done, screens}, {at, done}} {
		if framed {
			parts = parts[1:]
		}
		parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
		if line = strings.Join(parts, "   "); utf8.RuneCountInString(line) <= width {
			break
		}
	}
	return line
}

func (v *runView) evidenceLine() string {
	if v.key == "" || v.evidence.Source == "" {
		return ""
	}
	return fmt.Sprintf("%s: %s, %s", v.key, v.evidence.Grade, v.evidence.Source)
}

// wrap breaks text, painted or not, into lines of a width.
func wrap(text string, width int) []string {
	var out []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && visible(line)+1+visible(word) > width {
			out, line = append(out, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(out, line)
}
