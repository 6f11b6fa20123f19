package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/usbwatch"
	"github.com/labctl/labctl/recipes"
)

// watching are the flags of hid watch.
type watching struct {
	compiling
	recipe      string
	secretFiles []string
	lint, once  bool
}

func (a *app) hidWatchCommand() *cobra.Command {
	var f watching
	c := &cobra.Command{
		Use: "watch", Short: "Play the host: see at this machine what the keyboard types",
		Long: `Watch is for the machine at the other end of the cable: plug the Pi into a laptop
first. It finds the keyboard that labctl makes of a Pi, takes it from the desktop
so that nothing is typed there, checks what it says of itself, does what a host
does, and shows each key and the console as the keys would leave it. With
--wait-for-watcher at the Pi's end no key comes before the watcher is ready.

--recipe compares what comes with the keys of a recipe, compiled for the same
facts; every plugging-in begins anew. Its secrets are found as recipe run finds
them. Keys of a secret are not shown: those of the recipe's, those that go into a
password field, and text after a lock key was tapped back and forth, as it is
before hid type --secret.

It goes on until ctrl-c, or --once, or --lint, which only checks. At the end it
shows how evenly the keys came. Exit code 1: the keys differ from the recipe's,
or a finding of --lint is bad.

A labctl for this needs libusb: make build-usb builds it.`,
		Example: "  sudo labctl hid watch\n  sudo labctl hid watch --recipe restore-standard-switch --host nuc01",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !usbwatch.Built {
				return hintf(exitWith(exitFailed, fmt.Errorf("watching the cable: %w", usbwatch.ErrNotBuilt)),
					"in labctl's source, on a machine with gcc, pkg-config and libusb-1.0-0-dev, make build-usb makes bin/labctl-usb, which can")
			}
			w, err := a.newWatch(cmd, &f)
			if err != nil {
				return err
			}
			return w.run(cmd.Context(), usbwatch.Watch)
		},
	}
	f.add(a, c)
	fs := c.Flags()
	fs.StringVar(&f.recipe, "recipe", "", "compare with the keys of this recipe, `NAME|FILE`")
	fs.StringArrayVar(&f.secretFiles, "secret-file", nil, "read a secret of the recipe from a file, `NAME=FILE`; repeat for more")
	fs.BoolVar(&f.lint, "lint", false, "only check what the first keyboard says of itself")
	fs.BoolVar(&f.once, "once", false, "end when the first keyboard is gone")
	c.ValidArgsFunction = cobra.NoFileCompletions
	c.RegisterFlagCompletionFunc("recipe", completeRecipes)
	return c
}

// newWatch prepares a watch: the model, and the recipe's keys where one is named.
func (a *app) newWatch(cmd *cobra.Command, f *watching) (*watch, error) {
	facts, err := a.consoleFacts(cmd, f.facts)
	if err != nil {
		return nil, err
	}
	w := &watch{a: a, lint: f.lint, once: f.once, facts: facts, password: a.get("LABCTL_PASSWORD")}
	if f.recipe == "" {
		for name, given := range map[string]bool{"var": len(f.vars) > 0, "layout": f.layout != "", "keypad": f.keypad, "secret-file": len(f.secretFiles) > 0} {
			if given {
				return nil, usagef("--%s is for the keys of a recipe: give --recipe too", name)
			}
		}
		return w, w.reset()
	}
	r, err := a.findRecipe(f.recipe)
	if err != nil {
		return nil, err
	}
	j := &job{recipe: r, arg: f.recipe, facts: facts}
	if name := cmd.Flag("host").Value.String(); name != "" {
		if j.host, err = a.configuredHost(name); err != nil {
			return nil, err
		}
	}
	if j.vars, err = f.values(r); err != nil {
		return nil, err
	}
	if j.program, err = a.compile(r, facts, j.vars); err != nil {
		return nil, err
	}
	if j.verdict, err = j.program.Check(cmd.Context()); err != nil {
		return nil, a.recipeFault(err)
	}
	if err := a.fillVars(j); err != nil {
		return nil, err
	}
	if j.vars.Secrets, err = a.recipeSecrets(cmd.Context(), j, &running{secretFiles: f.secretFiles}); err != nil {
		return nil, err
	}
	if w.want, err = a.compiledKeys(cmd.Context(), j); err != nil {
		return nil, err
	}
	w.recipe = r.Name
	if s, ok := j.vars.Secrets["password"]; ok {
		w.password = s.Reveal()
	}
	if w.facts, err = simulated(r, facts, j.verdict); err != nil {
		return nil, usagef("%w", err)
	}
	return w, w.reset()
}

// wantedKey is one key of a recipe, or one secret, and its reports.
type wantedKey struct {
	word    string // as in ${password}
	secret  string // its name, or nothing
	reports []hid.Report
}

// notebook is a keyboard that writes down what it is to type. Its host has Caps Lock
// off, as a watcher has.
type notebook struct{ reports []hid.Report }

func (p *notebook) Send(_ context.Context, r hid.Report) error {
	p.reports = append(p.reports, r)
	return nil
}

func (p *notebook) LEDs() (hid.LEDs, bool)                                 { return 0, true }
func (p *notebook) SetCapsLock(context.Context, bool, time.Duration) error { return nil }
func (p *notebook) Probe(context.Context, hid.Usage, time.Duration) error  { return nil }
func (p *notebook) take() []hid.Report                                     { r := p.reports; p.reports = nil; return r }

// compiledKeys runs a recipe on paper. All that a run would refuse for the host's
// sake is accepted: nothing is typed here.
func (a *app) compiledKeys(ctx context.Context, j *job) ([]wantedKey, error) {
	vars := j.vars
	vars.Speed, vars.Accept = math.Inf(1), j.verdict.Risks
	program, err := a.compile(j.recipe, j.facts, vars)
	if err != nil {
		return nil, err
	}
	var out []wantedKey
	p := &notebook{}
	err = program.Run(ctx, p, func(e recipes.Event) {
		if e.Kind != recipes.EventKey {
			return
		}
		k := wantedKey{word: e.Key, reports: p.take()}
		if name, ok := strings.CutPrefix(e.Key, "${"); ok {
			name = strings.TrimSuffix(name, "}")
			if slices.ContainsFunc(j.recipe.Secrets, func(in recipes.Input) bool { return in.Name == name }) {
				k.secret = name
			}
		}
		if len(k.reports) > 0 { // an empty password is one, and takes no keys
			out = append(out, k)
		}
	})
	var unsafe *recipes.UnsafeError
	var verify *recipes.VerifyError
	switch {
	case errors.As(err, &verify): // of the network, which nobody asked
	case errors.As(err, &unsafe):
		return nil, hintf(exitWith(exitUnsafe, err), "give the missing facts here as to recipe run; which they are: labctl recipe check %s", shellWord(j.arg))
	case err != nil:
		return nil, a.recipeFault(err)
	}
	return out, nil
}

// run watches until ctx ends, and shows what came.
func (w *watch) run(ctx context.Context, watchCable func(context.Context, usbwatch.Options, func(usbwatch.Event)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The cable is not kept waiting by a slow terminal, so events queue up.
	var q eventQueue
	ended := make(chan error, 1)
	go func() {
		ended <- watchCable(ctx, usbwatch.Options{Lint: w.lint, Once: w.once}, q.put)
	}()
	if !w.a.json() && !w.lint {
		w.live, _ = w.a.startLive()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var err error
	for done := false; !done; {
		select {
		case err = <-ended:
			done = true
		case <-tick.C:
		}
		for _, e := range q.takeAll() {
			w.take(e)
		}
		if !done && err == nil {
			if limit := w.wait(time.Now()); limit != nil {
				err = limit
				cancel()
				<-ended
				done = true
			}
		}
		w.draw()
	}
	if l := w.live; l != nil {
		width, height := l.size()
		last := w.picture(width, max(height-14, 1)).lines(l.ability)
		w.live = nil
		l.end()
		for _, line := range last {
			fmt.Fprintln(l.out, line)
		}
	}
	w.flush()
	switch {
	case errors.Is(err, usbwatch.ErrNotAllowed):
		return hintf(err, "sudo labctl hid watch, or a udev rule that gives you devices of 1d6b:0104")
	case err != nil:
		return err
	case w.lint:
		return w.lintResult(ctx)
	}
	return w.result()
}

// eventQueue holds what has come and was not looked at yet.
type eventQueue struct {
	mu     sync.Mutex
	events []usbwatch.Event
}

func (q *eventQueue) put(e usbwatch.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, e)
}

func (q *eventQueue) takeAll() []usbwatch.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.events
	q.events = nil
	return out
}
