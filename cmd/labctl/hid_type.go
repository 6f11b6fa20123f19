package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid"
)

// typing are the flags of the commands that send keys.
type typing struct {
	keyboard, host, root string
	layout               string
	keypad               bool
	pace                 hid.Pace
	settle               time.Duration
	watcher, dryRun      bool
	powerOn              bool
}

func (f *typing) add(a *app, c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.keyboard, "keyboard", "", "`URI` of the keyboard: "+keyboardForms+" (default: the host's, else /dev/hidg0)")
	fs.StringVar(&f.host, "host", "", "`HOST` of the config whose keyboard and layout to use")
	fs.DurationVar(&f.pace.Hold, "hold", hid.DefaultHold, "how long a key stays down")
	fs.DurationVar(&f.pace.Gap, "gap", hid.DefaultGap, "pause between two keys; 0s without --hold means no pause at all")
	fs.DurationVar(&f.settle, "settle", defaultSettle, "pause between the host's driver finding the keyboard and the first key")
	fs.BoolVar(&f.powerOn, "power-on", false, powerOnUsage)
	fs.BoolVar(&f.watcher, "wait-for-watcher", false, "send nothing before a watcher at the other end (hid watch) has given its sign")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the reports, and open no keyboard")
	rootFlag(c, &f.root)
	c.RegisterFlagCompletionFunc("host", a.completeHosts)
}

// finish judges the flags after parsing and fills in what the config says.
func (f *typing) finish(a *app, c *cobra.Command) error {
	for name, d := range map[string]time.Duration{"hold": f.pace.Hold, "gap": f.pace.Gap, "settle": f.settle} {
		if d < 0 {
			return usagef("--%s %s: a pause takes no less than no time", name, d)
		}
	}
	f.pace.Lead = hid.DefaultLead
	if f.settle == 0 {
		f.settle = -1
	}
	if f.host != "" {
		s, err := a.settings()
		if err != nil {
			return err
		}
		h, _, err := s.choose(f.host)
		if err != nil {
			return err
		}
		f.host = h.Name // as it is spelled there
		if f.keyboard == "" && h.Keyboard == "" {
			return hintf(usagef("host %s has no keyboard in the config", h.Name), "--keyboard URI names one")
		}
		if f.keyboard == "" && !c.Flags().Changed("keyboard") {
			f.keyboard = h.Keyboard
		}
		if f.layout = cmp.Or(f.layout, h.Layout, h.Facts["layout"]); f.layout == "" {
			f.layout = a.learned(h.Name).believe(a.now()).facts["layout"]
		}
		p := h.Pace.pace()
		if p.Hold > 0 && !c.Flags().Changed("hold") {
			f.pace.Hold = p.Hold
		}
		if p.Gap > 0 && !c.Flags().Changed("gap") {
			f.pace.Gap = p.Gap
		}
		if p.Lead > 0 {
			f.pace.Lead = p.Lead
		}
	}
	if f.pace.Gap == 0 {
		f.pace.Lead = 0
		if !c.Flags().Changed("hold") {
			f.pace.Hold = 0
		}
	}
	if f.keyboard == "" && !c.Flags().Changed("keyboard") {
		f.keyboard = "/dev/hidg0"
	}
	if f.layout == "" {
		f.layout = "us"
	}
	_, err := parseKeyboardURI(f.keyboard)
	return err
}

// findLayout returns a layout by name; the error has exit code 2.
func findLayout(name string) (*hid.Layout, error) {
	l, err := hid.FindLayout(name)
	if err == nil {
		return l, nil
	}
	var names []string
	for _, l := range hid.Layouts() {
		names = append(names, l.Short())
	}
	// What other programs call them is nearer than the spelling.
	elsewhere := map[string]string{"uk": "gb", "dvorak": "us-dvorak", "la": "latam", "en": "us"}[strings.ToLower(name)]
	if near := cmp.Or(elsewhere, nearest(strings.ToLower(name), names)); near != "" {
		return nil, hintf(usagef("%w", err), "did you mean %s?", near)
	}
	return nil, hintf(usagef("%w", err), "there are %s", strings.Join(names, ", "))
}

func completeLayouts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, l := range hid.Layouts() {
		names = append(names, l.Short()+"\t"+l.Name())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) hidTypeCommand() *cobra.Command {
	var f typing
	var secret bool
	var risks []string
	c := &cobra.Command{
		Use: "type [TEXT | -- TEXT | --secret]", Short: "Type a text on the host",
		Long: `Type types a text as keys of the layout that the host's console uses. A
character that the layout cannot type is refused before anything is sent. Enter
and Tab are keys, not text: labctl hid press knows them.

With --secret the text comes from LABCTL_SECRET_TEXT, else from a question on the
terminal, else, where stdin is none, from its first line. It is not shown in any
form. Before it is typed the host has to answer Num Lock with its light, and Caps
Lock is switched off for as long as it takes; a host that answers with no light
is refused, unless --accept-risk caps-lock says that it may come out inverted.

Exit code 5: nothing was typed. 6: keys have arrived, or may have.`,
		Example: "  sudo labctl hid type --layout de 'esxcli network ip interface list'\n  labctl hid type --dry-run -o json -- -v",
		Args:    argsBetween(0, 1, "one text, in quotes if there are blanks in it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.finish(a, cmd); err != nil {
				return err
			}
			l, err := findLayout(f.layout)
			if err != nil {
				return err
			}
			if f.keypad {
				l = l.WithKeypad()
			}
			for _, r := range risks {
				if r != riskCapsLock {
					return hintf(usagef("--accept-risk %s: no such risk", r), "hid type knows %s", riskCapsLock)
				}
			}
			var text string
			switch {
			case secret && len(args) > 0:
				return hintf(usagef("--secret and a text: a secret does not belong on a command line"), "leave the text out to be asked for it")
			case secret:
				if text, err = a.secretText(cmd.Context()); err != nil {
					return err
				}
			case len(args) == 0:
				return hintf(usagef("%s needs a text", cmd.CommandPath()), "usage: %s", cmd.UseLine())
			default:
				text = args[0]
			}
			chords, err := l.Chords(text)
			if err != nil {
				return untypeable(err, secret)
			}
			if at := l.Unsure(text); len(at) > 0 {
				// The places only, since the text may be a secret.
				var places []string
				for _, n := range at[:min(len(at), 8)] {
					places = append(places, strconv.Itoa(n+1))
				}
				more := ""
				if len(at) > 8 {
					more = " and more"
				}
				a.warn("consoles differ in layout %s: what arrives at character %s%s of the text may be another", l.Short(), strings.Join(places, ", "), more)
			}
			return a.sendKeys(cmd.Context(), "hid type", f, chords, secret, len(risks) > 0)
		},
	}
	f.add(a, c)
	c.Flags().StringVar(&f.layout, "layout", "", "keyboard `LAYOUT` of the host's console, by ESXi's name or a short one (default: the host's, given or learned, else us)")
	c.Flags().BoolVar(&f.keypad, "keypad", false, "type by its code on the keypad what no key gives, where the console takes that")
	c.Flags().BoolVar(&secret, "secret", false, "ask for the text, and show it nowhere")
	c.Flags().StringSliceVar(&risks, "accept-risk", nil, "go on in spite of a `RISK`: "+riskCapsLock)
	c.RegisterFlagCompletionFunc("layout", completeLayouts)
	c.RegisterFlagCompletionFunc("accept-risk", cobra.FixedCompletions([]string{riskCapsLock}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// riskCapsLock is accepted by who knows that Caps Lock is off.
const riskCapsLock = "caps-lock"

// untypeable gives the place of a character that the layout has not, and the
// character only where it is no secret.
func untypeable(err error, secret bool) error {
	var u *hid.UnmappedError
	if !errors.As(err, &u) {
		return err
	}
	err = usagef("%w", u)
	switch {
	case secret:
		return err
	case u.Rune == '\n' || u.Rune == '\r':
		return hintf(err, "a line ends with a key: labctl hid press ENTER")
	case u.Rune == '\t':
		return hintf(err, "Tab is a key: labctl hid press TAB")
	case u.Rune == '\uFFFD':
		return hintf(err, "it is not UTF-8")
	}
	return hintf(err, "that character is %q; --layout names another layout, --keypad may help for ASCII", u.Rune)
}

// secretText returns the text of hid type --secret.
func (a *app) secretText(ctx context.Context) (string, error) {
	const variable = "LABCTL_SECRET_TEXT"
	if text := a.get(variable); text != "" {
		return text, nil
	}
	if a.terminal(a.stdin) {
		s, err := a.askSecret(ctx, "text to type (not shown):", variable)
		return s.Reveal(), err
	}
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(a.stdin).ReadString('\n')
		got <- answer{line, err}
	}()
	const limit = time.Minute
	for waited := time.Duration(0); ; waited += sayEvery {
		ctx, cancel := context.WithTimeout(ctx, sayEvery)
		defer cancel()
		select {
		case r := <-got:
			if errors.Is(r.err, io.EOF) && r.line == "" {
				return "", hintf(usagef("no text to type: stdin is empty"), "give it on stdin or in %s", variable)
			} else if r.err != nil && !errors.Is(r.err, io.EOF) {
				return "", fmt.Errorf("reading the text from stdin: %w", r.err)
			}
			return strings.TrimSuffix(strings.TrimSuffix(r.line, "\n"), "\r"), nil
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return "", ctx.Err()
			}
			if waited+sayEvery >= limit {
				return "", usagef("no text to type: nothing came on stdin within %s", limit)
			}
			a.progress("waiting for the text on stdin")
		}
	}
}

// sayEvery is the longest silence.
const sayEvery = 10 * time.Second

func (a *app) hidPressCommand() *cobra.Command {
	var f typing
	c := &cobra.Command{
		Use: "press KEYS…", Short: "Press keys on the host",
		Long: `Press taps keys by their names, one chord after the other: F2, ENTER, ALT+F2,
CTRL+ALT+DELETE. DOWN×4 or DOWNx4 taps four times. --hold keeps each down for
that long; the host repeats a key that stays down, as with any keyboard.

Exit code 5: nothing was pressed. 6: keys have arrived, or may have.`,
		Example: "  sudo labctl hid press ALT+F2 ESCx4\n  sudo labctl hid press --hold 5s F12",
		Args:    argsBetween(1, -1, "the names of keys"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.finish(a, cmd); err != nil {
				return err
			}
			chords, err := hid.ParseChords(strings.Join(args, " "))
			if err != nil {
				return hintf(usagef("%w", err), "keys are named as in F2, ENTER, ALT+F2, CTRL+ALT+DELETE, DOWN×4")
			}
			if len(chords) == 0 {
				return usagef("%s needs the names of keys", cmd.CommandPath())
			}
			return a.sendKeys(cmd.Context(), "hid press", f, chords, false, false)
		},
	}
	f.add(a, c)
	return c
}

// hidReportsResult is what --dry-run prints. The reports of a secret stay out.
type hidReportsResult struct {
	Version int      `json:"version"`
	Reports []string `json:"reports"`
	Secret  bool     `json:"secret,omitempty"`
}

// hidSentResult is what a run did. The numbers of a secret stay out.
type hidSentResult struct {
	Version  int    `json:"version"`
	Keyboard string `json:"keyboard"`
	Keys     int    `json:"keys,omitempty"` // tapped
	Sent     int    `json:"sent,omitempty"` // reports that the host took
	Screen   string `json:"screen,omitempty"`
}

// sendKeys opens the keyboard, types, and gives it back.
func (a *app) sendKeys(ctx context.Context, command string, f typing, chords []hid.Chord, secret, capsAccepted bool) (err error) {
	if f.dryRun {
		r := hidReportsResult{Version: 1, Reports: []string{}, Secret: secret}
		if secret {
			a.say("every character can be typed; the reports of a secret are not shown")
			return a.result(r, func(*page) {})
		}
		for _, report := range hid.Reports(chords) {
			r.Reports = append(r.Reports, report.String())
		}
		return a.result(r, func(p *page) {
			for _, s := range r.Reports {
				p.printf("%s\n", s)
			}
		})
	}
	if f.host != "" {
		unlock, err := a.lock("host-"+f.host, command)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if err := wholeKeys(f.keyboard, chords); err != nil {
		return err
	}
	kb, err := a.openKeyboard(ctx, keyboardOptions{URI: f.keyboard, Command: command, Settle: f.settle, Watcher: f.watcher, PowerOn: f.powerOn, Root: f.root})
	if err != nil {
		return err
	}
	sent := 0
	defer func() {
		if closeErr := kb.Close(); err == nil {
			err = keysFault(kb, closeErr)
		} else if closeErr != nil {
			a.warn("%s", closeErr)
		}
		if err == nil {
			err = a.sentResult(kb, len(chords), sent, secret)
		}
	}()
	restore := func() error { return nil }
	if secret {
		if restore, err = a.readyForSecret(ctx, kb, capsAccepted); err != nil {
			return err
		}
	}
	reports, before, told := len(hid.Reports(chords)), kb.Delivered(), false
	stop := a.reminding(func() {
		switch {
		case !told: // a short text is over before there is anything to tell
			told = true
		case secret:
			a.progress("typing")
		default:
			a.progress("typing: %d of %d reports", kb.Delivered()-before, reports)
		}
	})
	sent, err = kb.Type(ctx, chords, f.pace)
	stop()
	if err != nil {
		if secret {
			err = withoutCount(err)
		} else if errors.Is(err, context.Canceled) {
			a.say("%d of %d reports were sent", sent, reports)
		}
		return usbHelp(keysFault(kb, err))
	}
	if err := restore(); err != nil {
		a.warn("the text is typed, but Caps Lock was on before and may be off now: %s", err)
	}
	return nil
}

// withoutCount leaves out how many reports of a secret were sent.
func withoutCount(err error) error {
	var lost *hid.DeliveryError
	if errors.As(err, &lost) {
		return fmt.Errorf("typing the secret: %w", lost)
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return errors.New("typing the secret failed")
}

// reminding calls say now and every ten seconds, until the returned func is
// called.
func (a *app) reminding(say func()) (stop func()) {
	say()
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for t := time.NewTicker(sayEvery); ; {
			select {
			case <-done:
				t.Stop()
				return
			case <-t.C:
				say()
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (a *app) sentResult(kb *keyboard, keys, sent int, secret bool) error {
	r := hidSentResult{Version: 1, Keyboard: kb.Name, Keys: keys, Sent: sent}
	if secret {
		r.Keys, r.Sent = 0, 0
	}
	if kb.Model != nil {
		r.Screen = kb.Model.World().At()
	}
	return a.result(r, func(*page) {
		switch {
		case secret:
			a.say("typed, and taken by the host")
		default:
			a.say("all taken by the host: %s in %s", count(keys, "key"), count(sent, "report"))
		}
	})
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// echoLimit is how long the host may take to answer with a light.
const echoLimit = time.Second

// readyForSecret makes sure that a host listens and that Caps Lock is off. The
// returned func switches Caps Lock back on where it was.
func (a *app) readyForSecret(ctx context.Context, kb *keyboard, capsAccepted bool) (restore func() error, err error) {
	limit := a.upTo(echoLimit)
	restore = func() error { return nil }
	silent := func(err error) error {
		if !errors.Is(err, hid.ErrNoEcho) {
			return usbHelp(keysFault(kb, fmt.Errorf("before the secret: %w", err)))
		}
		if capsAccepted {
			a.warn("the host shows no lock lights: it takes keys, and whether Caps Lock is off cannot be seen")
			return nil
		}
		return hintf(exitWith(exitUnsafe, errors.New("the host shows no lock lights, so a secret might come out inverted; nothing of it was typed")),
			"if Caps Lock is certainly off, --accept-risk %s types all the same", riskCapsLock)
	}
	if err := kb.Probe(ctx, hid.KeyNumLock, limit); err != nil {
		return restore, silent(err)
	}
	lights, _ := kb.LEDs()
	if err := kb.SetCapsLock(ctx, false, limit); err != nil {
		return restore, silent(err)
	}
	if lights&hid.CapsLock != 0 {
		a.say("Caps Lock was on: it is off while the secret is typed")
		restore = func() error { return kb.SetCapsLock(context.WithoutCancel(ctx), true, limit) }
	}
	return restore, nil
}
