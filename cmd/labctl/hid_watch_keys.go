package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/usbwatch"
	"github.com/labctl/labctl/recipes/dcui"
)

// watch is what a watcher of the cable knows.
type watch struct {
	a          *app
	lint, once bool
	recipe     string      // compared with; "" for none
	want       []wantedKey // its keys
	facts      map[string]string
	password   string // of the model

	live     *live
	device   *usbwatch.Device // plugged in now
	findings []usbwatch.Finding
	ready    bool
	since    time.Time // when the waiting for a keyboard began
	told     time.Time // when it was last said

	console *practice // as all keys have left it
	fresh   *practice // as those since the keyboard was plugged in have
	keys    dcui.Receiver
	mask    masking
	match   comparer

	plugged  int // keyboards, one after the other
	reports  int // shown
	pressed  int // keys of them
	odd      int // transfers that were no reports
	hidden   bool
	lost     error // what ended a keyboard that was not unplugged
	previous time.Time
	gaps     []time.Duration // between two reports that are shown
	line     []string        // words that are not out yet
	place    string
}

// reset puts the model at its start.
func (w *watch) reset() error {
	var err error
	if w.console, err = newPractice(w.facts, w.password); err != nil {
		return usagef("%w", err)
	}
	w.place = w.where()
	return w.plug()
}

// plug begins with a keyboard that was plugged in.
func (w *watch) plug() error {
	var err error
	if w.fresh, err = newPractice(w.facts, w.password); err != nil {
		return usagef("%w", err)
	}
	w.keys, w.mask, w.previous = dcui.Receiver{}, masking{}, time.Time{}
	w.match = comparer{want: w.want}
	return nil
}

// watchEvent is one line of hid watch -o json. The JSON is a contract.
type watchEvent struct {
	Event    string             `json:"event"` // found, ready, report, secret, odd, differs, gone
	Report   string             `json:"report,omitempty"`
	Key      string             `json:"key,omitempty"`    // that the report completes
	Screen   string             `json:"screen,omitempty"` // of the model, where a key was completed
	Name     string             `json:"name,omitempty"`   // of a secret, where it is known
	Device   *watchDevice       `json:"device,omitempty"`
	Findings []usbwatch.Finding `json:"findings,omitempty"`
	Bytes    int                `json:"bytes,omitempty"`
	Position int                `json:"position,omitempty"` // of the recipe's key, from 1
	Want     string             `json:"want,omitempty"`
	Got      string             `json:"got,omitempty"`
	Error    string             `json:"error,omitempty"`
}

type watchDevice struct {
	ID           string `json:"id"`
	Bus          int    `json:"bus"`
	Address      int    `json:"address"`
	Speed        string `json:"speed"`
	Manufacturer string `json:"manufacturer"`
	Product      string `json:"product"`
	Release      string `json:"release"`
}

func describeDevice(d *usbwatch.Device) *watchDevice {
	return &watchDevice{
		ID: fmt.Sprintf("%04x:%04x", d.Vendor, d.Product), Bus: d.Bus, Address: d.Address,
		Speed: d.Speed, Manufacturer: d.Manufacturer, Product: d.Name, Release: d.Release,
	}
}

func (d *watchDevice) String() string {
	return fmt.Sprintf("%s %s (%s, release %s) at bus %d, address %d, %s speed", d.Manufacturer, d.Product, d.ID, d.Release, d.Bus, d.Address, d.Speed)
}

// take looks at one event.
func (w *watch) take(e usbwatch.Event) {
	switch e.Kind {
	case usbwatch.EventFound:
		w.plugged++
		w.device, w.findings, w.ready = e.Device, e.Findings, false
		if err := w.plug(); err != nil { // the same facts were good before
			w.lost = err
		}
		d := describeDevice(e.Device)
		if w.lint {
			return
		}
		w.tell(watchEvent{Event: "found", Device: d, Findings: e.Findings}, "found %s, and took it from this machine's driver", d)
		for _, f := range e.Findings {
			if !f.OK {
				w.a.warn("%s: %s; %s", f.Check, f.Found, f.Why)
			}
		}
	case usbwatch.EventReady:
		w.ready = true
		w.tell(watchEvent{Event: "ready"}, "ready: the keyboard has the watcher's sign")
	case usbwatch.EventOdd:
		w.odd++
		w.tell(watchEvent{Event: "odd", Bytes: e.Length}, "%s came that are no report: a report has 8", count(e.Length, "byte"))
	case usbwatch.EventGone:
		w.device, w.since, w.told = nil, time.Time{}, time.Time{}
		gone := watchEvent{Event: "gone"}
		if e.Err != nil {
			w.lost = e.Err
			gone.Error = e.Err.Error()
			w.tell(gone, "the keyboard was lost: %v", e.Err)
			return
		}
		w.tell(gone, "the keyboard is gone")
	case usbwatch.EventReport:
		w.report(e.Report, e.At)
	}
}

// tell says one thing in both ways.
func (w *watch) tell(e watchEvent, format string, args ...any) {
	w.flush()
	if w.a.json() {
		w.a.event(e)
		return
	}
	w.a.progress(format, args...)
}

// report takes one report: what it presses, whether it may be shown, whether it
// is the one that a recipe has here.
func (w *watch) report(r hid.Report, at time.Time) {
	chords := w.keys.Take(r)
	fields := w.console.hides() || w.fresh.hides()
	verdict := w.match.take(r)
	hide := w.mask.take(r, chords, fields || w.match.guard()) || verdict.secret != ""
	var words []string
	for _, c := range chords {
		w.console.press(c, 0)
		w.fresh.press(c, 0)
		words = append(words, c.String())
	}
	key := strings.Join(words, " ")
	first := hide && !w.mask.telling
	w.mask.telling = hide
	if hide {
		w.hidden, w.previous = true, time.Time{}
		name := cmp.Or(verdict.secret, "secret")
		if first {
			w.word("${" + name + "}")
			if w.a.json() {
				w.a.event(watchEvent{Event: "secret", Name: verdict.secret})
			}
		}
		key = "${" + name + "}"
	} else {
		w.reports++
		w.pressed += len(chords)
		if !w.previous.IsZero() {
			w.gaps = append(w.gaps, at.Sub(w.previous))
		}
		w.previous = at
		e := watchEvent{Event: "report", Report: r.String(), Key: key}
		if len(chords) > 0 {
			e.Screen = w.console.world.At()
			for _, word := range words {
				w.word(word)
			}
		}
		if w.a.json() {
			w.a.event(e)
		}
	}
	if verdict.differs {
		got := cmp.Or(key, "report "+r.String())
		if hide {
			got = "something else"
		}
		k := w.match.differs
		w.tell(watchEvent{Event: "differs", Position: k.position, Want: k.want, Got: got},
			"key %d of %d: the recipe has %s here, and %s came", k.position, len(w.want), k.want, got)
	}
}

// hides says whether what is typed now goes where a console shows dots.
func (p *practice) hides() bool {
	return p.world.InPasswordField() || !p.belief.All(func(x dcui.World) bool { return !x.InPasswordField() })
}

// masking decides which reports stay unseen beside those of a recipe's secrets.
type masking struct {
	hid     bool // the last report was hidden
	telling bool // so was it for its watcher, for whatever reason
	tapped  hid.Usage
	taps    int  // of that lock key in a row
	guarded bool // a lock was tapped back and forth: what follows may be a secret
}

// take says whether a report is hidden. Fields says that text would be.
func (m *masking) take(r hid.Report, chords []hid.Chord, fields bool) bool {
	for _, c := range chords {
		switch {
		case c.Mods == 0 && isLock(c.Key) && c.Key == m.tapped:
			m.taps++
		case c.Mods == 0 && isLock(c.Key):
			m.tapped, m.taps = c.Key, 1
		default:
			m.tapped, m.taps = 0, 0
		}
		m.guarded = m.guarded || m.taps >= 2
	}
	text := false
	for _, u := range r.Keys() {
		text = text || mayType(hid.Chord{Mods: r.Mods(), Key: u}) || isKeypad(u)
	}
	hidden := false
	switch {
	case !fields && !m.guarded:
		hidden = m.hid && r == hid.Report{} // the release of a secret's last key
	case len(r.Keys()) > 0:
		hidden = text
	case r.Mods()&^(hid.Shift|hid.RightShift|hid.AltGr|hid.Alt) == 0 && r.Mods() != 0:
		hidden = true // before or after a key of the text
	default:
		hidden = m.hid
	}
	m.hid = hidden
	return hidden
}

func isLock(u hid.Usage) bool {
	return u == hid.KeyNumLock || u == hid.KeyCapsLock || u == hid.KeyScroll
}

// isKeypad is for codes typed under Alt (HID Usage Tables, page 7: 0x54 to 0x63).
func isKeypad(u hid.Usage) bool { return u >= 0x54 && u <= 0x63 }

// comparer follows a recipe's keys. Taps of lock keys, by which a run asks for a
// sign of life, and reports that change nothing are passed over.
type comparer struct {
	want    []wantedKey
	key, at int // next: key, and report of it
	last    hid.Report
	probing bool // a lock key that is none of the recipe's is down
	any     bool
	differs *deviation
}

// deviation is the first place in which what came is not what was compiled.
type deviation struct {
	position int // of the key, from 1
	want     string
}

// compared is what came of one report.
type compared struct {
	secret  string // it belongs to this secret
	differs bool   // it is the first that differs
}

func (c *comparer) take(r hid.Report) compared {
	last := c.last
	c.last = r
	if len(c.want) == 0 {
		return compared{}
	}
	if c.differs == nil && c.key < len(c.want) && c.want[c.key].reports[c.at] == r {
		k := c.want[c.key]
		c.any = true
		if c.at++; c.at == len(k.reports) {
			c.at = 0
			c.key++
		}
		return compared{secret: k.secret}
	}
	keys := r.Keys()
	switch {
	case r == last:
		return compared{}
	case r.Mods() == 0 && len(keys) == 1 && isLock(keys[0]) && last == hid.Report{}:
		c.probing = true
		return compared{}
	case c.probing && r == hid.Report{}:
		c.probing = false
		return compared{}
	case c.differs != nil:
		return compared{}
	}
	c.any = true
	d := &deviation{position: c.key + 1, want: "nothing more"}
	out := compared{differs: true}
	if c.key < len(c.want) {
		d.want, out.secret = c.want[c.key].word, c.want[c.key].secret
	}
	c.differs = d
	return out
}

// guard says that text may be a secret although it is not where the recipe has
// one: the keys have gone another way, and the recipe has secrets.
func (c *comparer) guard() bool {
	return c.differs != nil && slices.ContainsFunc(c.want, func(k wantedKey) bool { return k.secret != "" })
}

// outcome sums a comparison up.
func (c *comparer) outcome() string {
	switch {
	case !c.any:
		return "nothing"
	case c.differs != nil:
		return "differs"
	case c.key < len(c.want):
		return "incomplete"
	}
	return "same"
}
