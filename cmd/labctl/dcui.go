package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

func (a *app) dcuiCommand() *cobra.Command {
	var given []string
	var logFile string
	c := &cobra.Command{
		Use: "dcui", Short: "The simulated console of an ESXi host, to practise on",
		Long: `Dcui shows the direct console of a simulated ESXi host in this terminal. Keys go
to it and nowhere else. Facts say what the host is like; a host of the config
brings its own with --host. What no fact says is unknown: the picture is that of
a usual host, the count of screens says how many others fit, and ctrl+n shows the
next of them.

Where a terminal or a desktop keeps a function key to itself, ctrl+f and a key
of the row of digits stand for it (ctrl+f 2 is F2, ctrl+f - is F11, ctrl+f = is
F12; ctrl+f c is Caps Lock), and ctrl+a likewise for ALT and a function key.
ctrl+t lets the idle time-out pass, ctrl+r starts again, ctrl+q or ctrl+f q ends.

The password of root is labctl, or what LABCTL_PASSWORD holds. What was done to
the host is told at the end. Without a terminal the keys are read from stdin as
a terminal would send them, and the last screen is printed.`,
		Example: "  labctl dcui --fact esxi=6.7 --fact management=distributed",
		Args:    argsBetween(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := a.consoleFacts(cmd, given)
			if err != nil {
				return err
			}
			return a.practise(cmd.Context(), facts, logFile)
		},
	}
	a.factFlags(c, &given)
	c.Flags().StringVar(&logFile, "log", "", "write each key and where it led to `FILE`, a JSON object a line")
	return c
}

// factFlags are the flags by which facts of a console are given.
func (a *app) factFlags(c *cobra.Command, given *[]string) {
	c.Flags().StringArrayVar(given, "fact", nil, "what is known of the console, `NAME=VALUE`; repeat for more")
	c.Flags().String("host", "", "take facts from this host of the config, `NAME`")
	c.RegisterFlagCompletionFunc("fact", completeFacts)
	c.RegisterFlagCompletionFunc("host", a.completeHosts)
}

// completeFacts offers the names of facts, and after the equals sign the
// values.
func completeFacts(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	name, _, ok := strings.Cut(word, "=")
	var out []string
	if !ok {
		for _, n := range dcui.FactNames() {
			out = append(out, n+"=")
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	for _, v := range dcui.FactValues(name) {
		out = append(out, name+"="+v)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// consoleFacts gives the facts of --fact over those of the host that --host
// names.
func (a *app) consoleFacts(cmd *cobra.Command, given []string) (map[string]string, error) {
	facts := map[string]string{}
	if name := cmd.Flag("host").Value.String(); name != "" {
		h, err := a.configuredHost(name)
		if err != nil {
			return nil, err
		}
		known, _, err := a.knownFacts(h)
		if err != nil {
			return nil, err
		}
		maps.Copy(facts, known)
	}
	flags, err := parseFacts(given)
	if err != nil {
		return nil, err
	}
	maps.Copy(facts, flags)
	return facts, nil
}

// configuredHost returns the entry of the config that is called name.
func (a *app) configuredHost(name string) (*HostConf, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(s.Hosts))
	for i := range s.Hosts {
		names[i] = s.Hosts[i].Name
		if strings.EqualFold(names[i], name) {
			return &s.Hosts[i], nil
		}
	}
	if len(names) == 0 {
		return nil, hintf(usagef("no host is configured: %s is unknown", name), "without a config, give --fact and --keyboard; to write one: %s", a.line("config", "init"))
	}
	err = usagef("no host is called %s: the config holds %s", name, strings.Join(names, ", "))
	if near := nearest(name, names); near != "" {
		return nil, hintf(err, "did you mean %s?", near)
	}
	return nil, err
}

// hostFacts are the facts of a host's entry; its keyboard layout is one.
func hostFacts(h *HostConf) map[string]string {
	facts := maps.Clone(h.Facts)
	if facts == nil {
		facts = map[string]string{}
	}
	if h.Layout != "" && facts["layout"] == "" {
		facts["layout"] = h.Layout
	}
	return facts
}

// parseFacts reads name=value and judges both, so that a misspelt fact never
// passes for an unknown one.
func parseFacts(given []string) (map[string]string, error) {
	facts := map[string]string{}
	for _, g := range given {
		name, value, ok := strings.Cut(g, "=")
		if !ok {
			return nil, hintf(usagef("--fact %s: want NAME=VALUE", g), "the facts are %s", strings.Join(dcui.FactNames(), ", "))
		}
		if old, twice := facts[name]; twice && old != value {
			return nil, usagef("--fact %s is given twice, as %s and as %s", name, old, value)
		}
		facts[name] = value
	}
	return facts, checkFacts(facts)
}

// checkFacts turns an unknown fact into exit 2 with the word that was meant.
func checkFacts(facts map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		_, err := dcui.NewWorld(map[string]string{name: facts[name]})
		var bad *dcui.FactError
		if !errors.As(err, &bad) {
			continue
		}
		usage := usagef("%w", err)
		known := dcui.FactValues(name)
		switch near := nearest(name, dcui.FactNames()); {
		case known == nil && near != "":
			return hintf(usage, "did you mean %s?", near)
		case known == nil || bad.Value == "":
			return usage
		case name == "esxi":
			near = majorMinor(bad.Value)
			if slices.Contains(known, near) {
				return hintf(usage, "did you mean esxi=%s?", near)
			}
			return hintf(usage, "of other versions nobody knows the console; who takes one for like another gives that")
		case nearest(bad.Value, known) != "":
			return hintf(usage, "did you mean %s=%s?", name, nearest(bad.Value, known))
		}
		return usage
	}
	return nil
}

// practicePassword is root's where no other is given.
const practicePassword = "labctl"

// practice is a simulated console under somebody's hands.
type practice struct {
	facts  map[string]string
	secret string // root's password
	layout *hid.Layout

	belief   dcui.Belief
	world    dcui.World // the one that is shown
	views    int        // different screens of the belief; 0 until counted
	view     int        // which of them is shown
	keys     int
	last     string // the key
	evidence dcui.Evidence
	note     string
	record   func(keyRecord) // nil, or what is told of each key
	again    func()          // nil, or what is told when it starts again
}

// keyRecord is one key and where it led.
type keyRecord struct {
	chord hid.Chord
	char  rune // the character it was to type, 0 for a key
	// secret says that the key went into a field that hides it, in some world.
	secret      bool
	before, now dcui.Belief
	from, to    dcui.World
}

// newPractice starts where a console usually is: at the welcome screen, with
// Caps Lock off, unless facts say otherwise.
func newPractice(facts map[string]string, secret string) (*practice, error) {
	p := &practice{facts: facts, secret: secret}
	if p.secret == "" {
		p.secret = practicePassword
	}
	name := facts["layout"]
	if name == "" {
		name = "us"
	}
	var err error
	if p.layout, err = hid.FindLayout(name); err != nil {
		return nil, err
	}
	return p, p.reset()
}

func (p *practice) reset() error {
	start := map[string]string{"screen": "welcome", "caps": "off", "layout": p.layout.Short()}
	maps.Copy(start, p.facts)
	b, err := dcui.NewBelief(start)
	if err != nil {
		return err
	}
	w, err := dcui.NewWorld(start)
	if err != nil {
		return err
	}
	p.belief, p.world = b.SetPassword(p.secret), w.SetPassword(p.secret)
	p.views, p.view, p.keys, p.last, p.evidence, p.note = 0, 0, 0, "", dcui.Evidence{}, ""
	return nil
}

func (p *practice) press(c hid.Chord, char rune) {
	hides := p.world.InPasswordField() || !p.belief.All(func(w dcui.World) bool { return !w.InPasswordField() })
	r := keyRecord{chord: c, char: char, secret: hides && mayType(c), before: p.belief, from: p.world}
	p.belief, _ = p.belief.Step(c)
	p.world, p.evidence = p.world.Step(c)
	p.keys++
	p.views, p.note = 0, ""
	p.last = r.word()
	if p.record != nil {
		r.now, r.to = p.belief, p.world
		p.record(r)
	}
}

// word is the key as it may be shown.
func (r *keyRecord) word() string {
	switch {
	case r.secret:
		return "•"
	case r.char != 0 && r.char != ' ':
		return string(r.char)
	}
	return r.chord.String()
}

// mayType says whether a chord may be part of a text.
func mayType(c hid.Chord) bool {
	u := c.Key
	return c.Mods&^(hid.Shift|hid.RightShift|hid.AltGr) == 0 &&
		(u >= hid.KeyA && u <= hid.Key0 || u >= hid.KeySpace && u < hid.KeyCapsLock || u == 0x64 || u == 0x87 || u == 0x89)
}

// typed gives a character to the console, on its keyboard's layout.
func (p *practice) typed(r rune) {
	chords, err := p.layout.Chords(string(r))
	if err != nil {
		p.note = fmt.Sprintf("keyboard layout %s has no key for this character", p.layout.Short())
		return
	}
	for _, c := range chords {
		p.press(c, r)
	}
}

// handle takes one key from the terminal; quit says that it was the end.
func (p *practice) handle(t typed) (quit bool, err error) {
	switch {
	case t.char != 0:
		p.typed(t.char)
	case t.chord != (hid.Chord{}):
		p.press(t.chord, 0)
	case t.command == ctrlQuit, t.command == ctrlC:
		return true, nil
	case t.command == ctrlNext:
		p.show(p.view + 1)
	case t.command == ctrlPrev:
		p.show(p.view - 1)
	case t.command == ctrlReset:
		if err = p.reset(); err == nil && p.again != nil {
			p.again()
		}
	case t.command == ctrlIdle:
		p.belief, p.world = p.belief.Idle(), p.world.Idle()
		p.views, p.last, p.note = 0, "", "the console's idle time-out has passed"
	}
	return false, err
}

// show turns to another of the screens that the belief holds.
func (p *practice) show(i int) {
	views := p.belief.Views()
	p.views = len(views)
	p.view = (i + p.views) % p.views
	p.world = views[p.view].Worlds[0]
	p.note = fmt.Sprintf("screen %d of %d", p.view+1, p.views)
	if d := difference(p.world.Facts(), p.facts); d != "" {
		p.note += ", where " + d
	}
}

// difference lists the facts of a world that were not given, but for those that
// a practice takes for granted.
func difference(have, given map[string]string) string {
	var out []string
	for _, n := range dcui.FactNames() {
		if have[n] != "" && given[n] == "" && n != "screen" && n != "caps" && n != "layout" {
			out = append(out, n+"="+have[n])
		}
	}
	return strings.Join(out, " ")
}

// dcuiResult is what a practice came to. The JSON is a contract.
type dcuiResult struct {
	Version int               `json:"version"`
	Facts   map[string]string `json:"facts"` // as given
	Keys    int               `json:"keys"`  // keys pressed
	End     string            `json:"end"`   // name of the last screen
	Effect  string            `json:"effect"`
	Effects []string          `json:"effects"` // the worst first
	Screens int               `json:"screens"` // different ones that were possible at the end
	Text    []string          `json:"text"`    // the last screen
}

func (p *practice) result() dcuiResult {
	r := dcuiResult{
		Version: 1, Facts: p.facts, Keys: p.keys, End: p.world.At(), Effect: p.world.Effect().String(),
		Effects: []string{}, Screens: len(p.belief.Views()),
	}
	for _, e := range p.world.Effects() {
		r.Effects = append(r.Effects, e.String())
	}
	s := p.world.Render()
	r.Text = strings.Split(strings.TrimSuffix(s.Text(), "\n"), "\n")
	return r
}

// keyEvent is one line of --log.
type keyEvent struct {
	Event    string `json:"event"` // key
	Number   int    `json:"number"`
	Key      string `json:"key"` // a dot where the console hides it
	Screen   string `json:"screen"`
	Selected string `json:"selected,omitempty"` // the item under the cursor
	Effect   string `json:"effect"`
	Evidence string `json:"evidence"` // grade of the transition
	Source   string `json:"source"`
}

// practise runs the console until a key, the end of stdin or an interrupt ends
// it.
func (a *app) practise(ctx context.Context, facts map[string]string, logFile string) (err error) {
	p, err := newPractice(facts, a.get("LABCTL_PASSWORD"))
	if err != nil {
		return usagef("%w", err)
	}
	if logFile != "" {
		// Not truncated and not created exclusively: the file may be a device.
		f, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return usagef("--log: %w", err)
		}
		defer f.Close()
		enc := json.NewEncoder(f)
		p.record = func(r keyRecord) {
			ev := keyEvent{"key", p.keys, p.last, r.to.At(), r.to.Selected(), r.to.Effect().String(), p.evidence.Grade.String(), p.evidence.Source}
			if err := enc.Encode(ev); err != nil {
				a.warn("--log: %v", err)
				p.record = nil
			}
		}
	}
	if err := a.play(ctx, p, "labctl dcui: a simulated host"); err != nil {
		return err
	}
	a.next("to keep keys as a recipe", "recipe", "record", "my-recipe.yaml")
	return a.result(p.result(), func(out *page) { p.write(out) })
}

func (p *practice) write(out *page) {
	r := p.result()
	if len(r.Effects) == 0 {
		out.printf("nothing was done to the host; the console is at %s\n", r.End)
		return
	}
	st := yellow
	if p.world.Effect().Destructive() {
		st = red
	}
	out.printf("done to the host: %s; the console is at %s\n", out.paint(st, strings.Join(r.Effects, ", ")), r.End)
}

// play puts the console on the terminal, or feeds it from stdin where there is
// none.
func (a *app) play(ctx context.Context, p *practice, title string) error {
	in, isFile := a.stdin.(*os.File)
	if !isFile || !a.terminal(a.stdin) {
		return a.playStream(ctx, p)
	}
	l, ok := a.startLive()
	if !ok && a.get("TERM") != "dumb" {
		// Keys come from a terminal, so there is one to draw on.
		if f, err := a.tty(); err == nil {
			defer f.Close()
			l, ok = a.liveOn(ttyOutput(f)), true
		}
	}
	if !ok {
		return hintf(usagef("labctl dcui needs a terminal that can place the cursor"), "TERM=%s and the streams given do not; keys can also come from a file on stdin", a.get("TERM"))
	}
	defer l.end()
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	cooked := func() { term.Restore(int(in.Fd()), before) }
	defer cooked()
	abrupt := func() { cooked(); l.end() }
	a.restore.Store(&abrupt)
	defer holdConsole(in)()
	return p.loop(ctx, in, l, title)
}

// playStream reads what a terminal would have sent.
func (a *app) playStream(ctx context.Context, p *practice) error {
	b, err := io.ReadAll(io.LimitReader(a.stdin, 1<<20))
	if err != nil {
		return fmt.Errorf("read keys from stdin: %w", err)
	}
	var d keyReader
	for _, t := range append(d.feed(b), d.flush()...) {
		if quit, err := p.handle(t); quit || err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}

// loop draws after each burst of keys, so that a fast typist or a keyboard
// gadget never waits for a slow terminal.
func (p *practice) loop(ctx context.Context, in io.Reader, l *live, title string) error {
	bytes := make(chan []byte)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(bytes)
		for {
			b := make([]byte, 256)
			n, err := in.Read(b)
			if n > 0 {
				select {
				case bytes <- b[:n]:
				case <-stop:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	counter := newCounter()
	defer close(counter.ask)
	var d keyReader
	var wait <-chan time.Time
	resize := time.NewTicker(300 * time.Millisecond) // a look at the size costs one ioctl
	defer resize.Stop()
	for {
		w, h := l.size()
		l.draw(p.draw(w, h, title, l.ability))
		if p.views == 0 {
			counter.count(p.belief, p.keys)
		}
		var keys []typed
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-bytes:
			if !ok {
				return nil
			}
			keys = d.feed(b)
		case <-wait:
			keys = d.flush()
		case n := <-counter.answer:
			if n.keys == p.keys {
				p.views = n.views
			}
			continue
		case <-resize.C:
			continue
		}
		wait = nil
		if d.waiting() {
			wait = time.After(escapeWait)
		}
		for _, t := range keys {
			if t.command == ctrlRedraw {
				l.redraw()
			}
			if quit, err := p.handle(t); quit || err != nil {
				return err
			}
		}
	}
}

// counter counts screens beside the loop: of a belief about which nothing is
// known there are a thousand, too many for the time between two keys.
type counter struct {
	ask    chan counted
	answer chan counted
}

type counted struct {
	belief dcui.Belief
	keys   int // how many keys had been pressed
	views  int
}

func newCounter() *counter {
	c := &counter{make(chan counted, 1), make(chan counted, 1)}
	go func() {
		for q := range c.ask {
			q.views = len(q.belief.Views())
			select {
			case <-c.answer: // nobody took the last one, and it is stale
			default:
			}
			c.answer <- q
		}
	}()
	return c
}

// count asks for a belief's number of screens; a question that still waits is
// replaced.
func (c *counter) count(b dcui.Belief, keys int) {
	select {
	case <-c.ask:
	default:
	}
	select {
	case c.ask <- counted{belief: b, keys: keys}:
	default:
	}
}

// frameRows is what the frame and the lines below take where there is room.
const statusRows = 4

// draw gives the console with what is known of it below.
func (p *practice) draw(w, h int, title string, ab ability) *canvas {
	c := newCanvas(w, h)
	screen := p.world.Render()
	rows := statusRows
	switch {
	case h < 8:
		rows = 1
	case h < dcui.Rows+statusRows:
		rows = 2
	}
	framed := w >= dcui.Columns+2 && h >= dcui.Rows+2+rows
	x, y := 0, 0
	if framed {
		x, y = (w-dcui.Columns)/2, 1
		frame(c, x-1, 0, dcui.Columns+2, dcui.Rows+2, title)
	}
	room := h - rows - y
	if framed {
		room--
	}
	leftOut, cut := c.blit(x, y, w-x, room, &screen)
	at := h - rows
	if framed {
		at = dcui.Rows + 2
		x--
	}
	width := w - x
	if framed {
		width = min(width, dcui.Columns+2)
	}
	lines := p.status(leftOut, cut, w < dcui.Columns)
	switch rows {
	case 1:
		p.statusLine(c, x, at, width)
	case 2:
		p.statusLine(c, x, at, width)
		if s := lines[0]; p.note != "" || cut > 0 || w < dcui.Columns {
			c.put(x, at+1, width, lookDim, s)
		} else {
			c.put(x, at+1, width, lookDim, lines[2])
		}
	default:
		p.statusLine(c, x, at, width)
		for i, s := range lines {
			c.put(x, at+1+i, width, lookDim, s)
		}
	}
	return c
}

// statusLine says where the console is and what was done to the host.
func (p *practice) statusLine(c *canvas, x, y, width int) {
	end := x + width
	put := func(l look, format string, args ...any) {
		x = c.put(x, y, end-x, l, fmt.Sprintf(format, args...))
	}
	put(lookBold, "%s", p.world.At())
	if s := p.world.Selected(); s != "" {
		put(look{}, " · %s", s)
	}
	put(look{}, "   ")
	switch worst := p.worst(); {
	case p.world.Effect() != dcui.Nothing:
		l := lookWatch
		if p.world.Effect().Destructive() {
			l = lookBad
		}
		var names []string
		for _, e := range p.world.Effects() {
			names = append(names, e.String())
		}
		put(l, "%s", strings.Join(names, ", "))
	case worst != dcui.Nothing:
		put(lookWatch, "nothing done here, elsewhere: %s", worst)
	default:
		put(lookGood, "nothing done to the host")
	}
	switch p.views {
	case 0:
	case 1:
		put(lookDim, "   1 screen fits")
	default:
		put(lookDim, "   %d screens fit", p.views)
	}
}

// worst is the worst effect in any world of the belief.
func (p *practice) worst() dcui.Effect {
	worst := dcui.Nothing
	for _, w := range p.belief.Worlds() {
		worst = max(worst, w.Effect())
	}
	return worst
}

// status gives the three lines below the first.
func (p *practice) status(leftOut, cut int, narrow bool) [3]string {
	var l [3]string
	switch {
	case p.note != "":
		l[0] = p.note
	case narrow:
		l[0] = "cropped: this console has 80 columns"
	case cut > 0:
		l[0] = fmt.Sprintf("cropped: %d rows of this console do not fit", cut)
	case p.last != "":
		l[0] = fmt.Sprintf("%s: %s, %s", p.last, p.evidence.Grade, p.evidence.Source)
	case p.secret == practicePassword:
		l[0] = "the password of root is " + practicePassword
	}
	var known []string
	for _, n := range dcui.FactNames() {
		if v := p.facts[n]; v != "" {
			known = append(known, n+"="+v)
		}
	}
	l[1] = "facts: " + strings.Join(known, " ")
	if len(known) == 0 {
		l[1] = "facts: none given, so a usual host is shown (--fact esxi=6.7 …)"
	}
	if leftOut > 0 && cut == 0 {
		l[1] += fmt.Sprintf(" (%d empty rows left out)", leftOut)
	}
	l[2] = "ctrl+q ends  ctrl+f 2: F2, -: F11, =: F12  ctrl+a 2: ALT+F2  ctrl+n other screen  ctrl+r again"
	return l
}

// frame draws a box with a heading.
func frame(c *canvas, x, y, w, h int, title string) {
	for i := 1; i < w-1; i++ {
		c.set(x+i, y, '─', lookDim)
		c.set(x+i, y+h-1, '─', lookDim)
	}
	for i := 1; i < h-1; i++ {
		c.set(x, y+i, '│', lookDim)
		c.set(x+w-1, y+i, '│', lookDim)
	}
	for _, corner := range []struct {
		x, y int
		r    rune
	}{{x, y, '┌'}, {x + w - 1, y, '┐'}, {x, y + h - 1, '└'}, {x + w - 1, y + h - 1, '┘'}} {
		c.set(corner.x, corner.y, corner.r, lookDim)
	}
	if title != "" {
		c.put(x+2, y, w-4, lookBold, " "+title+" ")
	}
}
