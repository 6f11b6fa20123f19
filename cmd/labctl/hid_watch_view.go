package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/hid/usbwatch"
	"github.com/labctl/labctl/recipes/dcui"
)

// wait says what is waited for, and ends a wait that --timeout caps.
func (w *watch) wait(now time.Time) error {
	if w.device != nil {
		return nil
	}
	if w.since.IsZero() {
		w.since = now
	}
	if limit := w.a.set.Timeout; limit > 0 && now.Sub(w.since) >= limit {
		return fmt.Errorf("waiting for a keyboard: none was plugged into this machine within %s", limit)
	}
	if w.live == nil && (w.told.IsZero() || now.Sub(w.told) >= sayEvery) {
		w.told = now
		w.a.progress("waiting for the keyboard: it is there while labctl types at the other end")
	}
	return nil
}

// where is the model's place in words.
func (w *watch) where() string {
	s := w.console.world.At()
	if item := w.console.world.Selected(); item != "" {
		s += ", " + item
	}
	return s
}

// mostWords is how many keys that lead nowhere go in one line.
const mostWords = 40

// word takes a key for the lines that stand for the picture where there is none.
func (w *watch) word(key string) {
	if n := len(w.line); n == 0 || w.line[n-1] != key || !strings.HasPrefix(key, "${") {
		w.line = append(w.line, key)
	}
	if place := w.where(); place != w.place || len(w.line) >= mostWords {
		w.place = place
		w.flush()
	}
}

func (w *watch) flush() {
	if len(w.line) > 0 && w.live == nil {
		w.a.progress("%s → %s", strings.Join(w.line, " "), w.place)
	}
	w.line = nil
}

func (w *watch) draw() {
	if w.live == nil {
		return
	}
	width, height := w.live.size()
	w.live.draw(w.picture(width, height))
}

// watchRows is what stands below the screen.
const watchRows = 3

// picture is the console as the keys would have left it, and what came.
func (w *watch) picture(width, height int) *canvas {
	c := newCanvas(width, height)
	screen := w.console.world.Render()
	x, y, room := 0, 0, max(height-watchRows, 1)
	if width >= dcui.Columns+2 && height >= dcui.Rows+2+watchRows {
		frame(c, 0, 0, dcui.Columns+2, dcui.Rows+2, "what the keys do to a simulated host: "+w.console.world.At())
		x, y, room = 1, 1, dcui.Rows
	}
	c.blit(x, y, width-x, room, &screen)
	at := y + room + y
	state, l := "waiting for the keyboard", lookWatch
	switch {
	case w.device != nil && w.ready:
		state, l = describeDevice(w.device).String(), lookGood
	case w.device != nil:
		state = "giving the sign to " + describeDevice(w.device).String()
	case w.lost != nil:
		state, l = w.lost.Error(), lookBad
	case w.plugged > 0:
		state = "the keyboard is gone; waiting for the next"
	}
	c.put(x, at, width-x, l, state)
	last := ""
	if n := len(w.line); n > 0 {
		last = "   " + strings.Join(w.line[max(0, n-10):], " ")
	}
	c.put(x, at+1, width-x, look{}, w.counts()+last)
	if w.recipe != "" {
		text, l := w.compared()
		c.put(x, at+2, width-x, l, text)
	} else {
		c.put(x, at+2, width-x, lookDim, "ctrl-c ends")
	}
	return c
}

func (w *watch) counts() string {
	s := fmt.Sprintf("%s in %s", count(w.pressed, "key"), count(w.reports, "report"))
	if w.hidden {
		s += ", and a secret"
	}
	return s
}

// compared says how the keys stand to the recipe's.
func (w *watch) compared() (string, look) {
	m := &w.match
	switch m.outcome() {
	case "nothing":
		return "none of " + w.recipe + " has come", lookWatch
	case "differs":
		return fmt.Sprintf("not as compiled: %s has %s as key %d of %d, and something else came", w.recipe, m.differs.want, m.differs.position, len(m.want)), lookBad
	case "incomplete":
		return fmt.Sprintf("as compiled so far: %d of %d keys of %s", m.key, len(m.want), w.recipe), lookWatch
	}
	return fmt.Sprintf("all %s of %s, as compiled", count(len(m.want), "key"), w.recipe), lookGood
}

// watchResult is what a watch came to. The JSON is a contract.
type watchResult struct {
	Version   int          `json:"version"`
	Keyboards int          `json:"keyboards"` // plugged in, one after the other
	Keys      int          `json:"keys"`      // without those of a secret
	Reports   int          `json:"reports"`   // likewise
	Secret    bool         `json:"secret"`    // there were keys that are not shown
	Odd       int          `json:"odd"`       // transfers that were no reports
	Screen    string       `json:"screen"`    // where the model ended
	Effect    string       `json:"effect"`
	Recipe    *watchRecipe `json:"recipe,omitempty"`
	Timing    *watchTiming `json:"timing,omitempty"`
}

type watchRecipe struct {
	Name     string `json:"name"`
	Outcome  string `json:"outcome"` // same, differs, incomplete, nothing
	Matched  int    `json:"matched"` // keys, a secret counting as one
	Of       int    `json:"of"`
	Position int    `json:"position,omitempty"` // of the first that differs, from 1
	Want     string `json:"want,omitempty"`
}

// watchTiming tells of the time between reports, in milliseconds.
type watchTiming struct {
	Median  float64      `json:"medianMs"`
	P99     float64      `json:"p99Ms"`
	Longest float64      `json:"longestMs"`
	Buckets []gapsBucket `json:"buckets"`
}

type gapsBucket struct {
	UpTo  float64 `json:"upToMs,omitempty"` // 0 for the last, which has no end
	Count int     `json:"count"`
}

// bucketEnds are the ends of the histogram's bars. A frame of USB is 1 ms, the
// default pauses are 10, 30 and 50 ms.
var bucketEnds = []time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
	20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second,
}

func timing(gaps []time.Duration) *watchTiming {
	if len(gaps) == 0 {
		return nil
	}
	gaps = slices.Sorted(slices.Values(gaps))
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	n := len(gaps)
	t := &watchTiming{Median: ms(gaps[n/2]), P99: ms(gaps[min(n-1, n*99/100)]), Longest: ms(gaps[n-1])}
	for _, end := range append(slices.Clone(bucketEnds), 0) {
		upTo := len(gaps)
		if end > 0 {
			upTo, _ = slices.BinarySearch(gaps, end+1)
		}
		t.Buckets = append(t.Buckets, gapsBucket{ms(end), upTo})
		gaps = gaps[upTo:]
	}
	return t
}

// result shows what came. Keys that are not a recipe's are exit code 1.
func (w *watch) result() error {
	r := watchResult{
		Version: 1, Keyboards: w.plugged, Keys: w.pressed, Reports: w.reports, Secret: w.hidden, Odd: w.odd,
		Screen: w.console.world.At(), Effect: w.console.world.Effect().String(), Timing: timing(w.gaps),
	}
	if w.recipe != "" {
		m := &w.match
		r.Recipe = &watchRecipe{Name: w.recipe, Outcome: m.outcome(), Matched: m.key, Of: len(m.want)}
		if m.differs != nil {
			r.Recipe.Position, r.Recipe.Want = m.differs.position, m.differs.want
		}
	}
	if err := w.a.result(r, func(p *page) { w.write(p, &r) }); err != nil {
		return err
	}
	switch {
	case w.lost != nil:
		return fmt.Errorf("watching the cable: %w", w.lost)
	case r.Recipe != nil && r.Recipe.Outcome != "same":
		text, _ := w.compared()
		return exitWith(exitFailed, errors.New(text))
	}
	return nil
}

func (w *watch) write(p *page, r *watchResult) {
	p.printf("%s; the simulated host: %s, at %s\n", w.counts(), r.Effect, r.Screen)
	if r.Recipe != nil && r.Recipe.Outcome == "same" {
		text, _ := w.compared()
		p.printf("%s\n", p.paint(green, text))
	}
	if r.Odd > 0 {
		p.printf("%s\n", p.paint(yellow, count(r.Odd, "transfer")+" that were no reports"))
	}
	if r.Timing == nil {
		return
	}
	p.printf("between two reports: median %.1f ms, 99 of 100 within %.1f ms, longest %.1f ms\n", r.Timing.Median, r.Timing.P99, r.Timing.Longest)
	const bar = 40
	most := 0
	first, last := len(r.Timing.Buckets), 0
	for i, b := range r.Timing.Buckets {
		if most = max(most, b.Count); b.Count > 0 {
			first, last = min(first, i), i
		}
	}
	for _, b := range r.Timing.Buckets[first : last+1] {
		name := "     more"
		if b.UpTo > 0 {
			name = fmt.Sprintf("≤ %4g ms", b.UpTo)
		}
		n := bar * b.Count / most
		if b.Count > 0 {
			n = max(n, 1)
		}
		p.printf("  %9s %7d %s\n", name, b.Count, strings.Repeat("█", n))
	}
}

// watchLint is what --lint shows. The JSON is a contract.
type watchLint struct {
	Version  int                `json:"version"`
	Device   *watchDevice       `json:"device"`
	OK       bool               `json:"ok"`
	Findings []usbwatch.Finding `json:"findings"`
}

func (w *watch) lintResult(ctx context.Context) error {
	if w.device == nil {
		return ctx.Err()
	}
	r := watchLint{Version: 1, Device: describeDevice(w.device), OK: true, Findings: w.findings}
	bad := 0
	for _, f := range r.Findings {
		if !f.OK {
			bad++
			r.OK = false
		}
	}
	err := w.a.result(r, func(p *page) {
		p.printf("%s\n", r.Device.String())
		t := table{}
		for _, f := range r.Findings {
			mark, st := "✓", plain
			if !f.OK {
				mark, st = "✗", yellow
			}
			t.row(st, mark+" "+f.Check, f.Found, f.Why)
		}
		t.write(p)
	})
	if err == nil && bad > 0 {
		err = exitWith(exitFailed, fmt.Errorf("%s that a host or its firmware may mind", count(bad, "finding")))
	}
	return err
}
