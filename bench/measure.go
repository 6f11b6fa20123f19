package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The conditions of the timed questions.
const (
	rtt     = 20 * time.Millisecond  // injected into each request, half of it each way
	hostOp  = 700 * time.Millisecond // injected into each network change and VM reconfiguration
	fewVMs  = 3
	someVMs = 8
)

// growthVMs are the sizes at which requests are counted.
var growthVMs = []int{3, 30, 300}

// Limits of labctl's design, see docs/bench.md.
const (
	maxCheck        = 200 * time.Millisecond
	minProvenRatio  = 0.95
	maxAddedJitter  = time.Millisecond
	maxUp           = 32
	maxDown         = 24
	maxList         = 8
	minUploadRatio  = 0.95
	maxManyBytes    = 1.2
	maxManyTime     = 2.5
	maxRequests     = 13
	minRequestRatio = 11.5
	minTimeRatio    = 10
	maxStartRatio   = 1.5
	maxMemory       = 40e6 // bytes
)

// bench is a benchmark under way.
type bench struct {
	runs   int      // of each timed question
	starts int      // of each program
	only   []string // parts; none: all of them
	say    func(format string, args ...any)
	bin    *programs
	rep    report
	skip   map[string]bool // govc commands that crash here
}

// parts of the benchmark, in their order.
var parts = []string{"net", "recipes", "keyboard", "vch"}

// measure answers all questions. What it has found so far is in the report also when it fails.
func (b *bench) measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "labctl-bench-")
	if err != nil {
		return fmt.Errorf("making room for the programs: %w", err)
	}
	defer os.RemoveAll(dir)
	b.say("building labctl, labsim, govc and two small programs")
	if b.bin, err = build(ctx, dir); err != nil {
		return err
	}
	if b.rep.Machine, err = b.describe(ctx); err != nil {
		return err
	}
	// Memory comes first: a child counts as large as the benchmark was when it started it.
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"net", b.net}, {"recipes", b.checks}, {"keyboard", b.keyboard}, {"vch", b.vchs}} {
		if len(b.only) > 0 && !slices.Contains(b.only, part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// net answers the questions about migrations, and about labctl as a program.
func (b *bench) net(ctx context.Context) error {
	if err := b.withLab(ctx, fewVMs, b.fewQuestions); err != nil {
		return err
	}
	if err := b.withLab(ctx, someVMs, b.outages); err != nil {
		return err
	}
	b.say("requests for %v VMs", growthVMs)
	for _, n := range growthVMs {
		if err := b.withLab(ctx, n, b.growth); err != nil {
			return err
		}
	}
	b.say("starting labctl and the minimal program %d times each", b.starts)
	return b.start(ctx)
}

// withLab runs f beside a labsim with that many VMs, which is stopped whatever happens.
func (b *bench) withLab(ctx context.Context, vms int, f func(context.Context, *lab) error, more ...string) error {
	l, err := startLab(ctx, b.bin, vms, more...)
	if err != nil {
		return err
	}
	defer l.stop()
	return f(ctx, l)
}

func (b *bench) fewQuestions(ctx context.Context, l *lab) error {
	b.say("requests of one migration with %d VMs", fewVMs)
	if err := b.requests(ctx, l); err != nil {
		return fmt.Errorf("counting requests: %w", err)
	}
	b.say("wall time with %v per request, %d runs", rtt, b.runs)
	if err := b.wall(ctx, l); err != nil {
		return fmt.Errorf("measuring wall time: %w", err)
	}
	return nil
}

// emptyHome is the environment of a program that needs no lab.
func (b *bench) emptyHome() ([]string, error) {
	home, err := os.MkdirTemp(b.bin.dir, "home-")
	if err != nil {
		return nil, fmt.Errorf("making a home: %w", err)
	}
	return environ(home), nil
}

// describe tells what the figures were measured on and with.
func (b *bench) describe(ctx context.Context) (machine, error) {
	m := machine{CPUs: runtime.NumCPU(), CPU: "unknown CPU", Platform: runtime.GOOS + "/" + runtime.GOARCH}
	env, err := b.emptyHome()
	if err != nil {
		return m, err
	}
	r, err := b.bin.run(ctx, env, "labctl", "version", "-o", "json")
	if err != nil {
		return m, err
	}
	var v struct {
		Release  string            `json:"release"`
		Commit   string            `json:"commit"`
		Modified bool              `json:"modified"`
		Go       string            `json:"go"`
		Modules  map[string]string `json:"modules"`
	}
	if err := json.Unmarshal(r.out, &v); err != nil {
		return m, fmt.Errorf("reading labctl's version: %w", err)
	}
	m.Labctl, m.Go, m.Govmomi = v.Release, v.Go, v.Modules["github.com/vmware/govmomi"]
	// Only Linux has these two files; elsewhere the report does without.
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(model)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(text), " ")
	}
	return m, nil
}

// requests counts both sides with nothing slowed down: the number of requests does not depend on the round trip. That
// of labctl depends on the host, which is why a slow host is asked too.
func (b *bench) requests(ctx context.Context, l *lab) error {
	q := &b.rep.Requests
	q.VMs = l.vms
	for _, c := range []struct {
		what    string
		to, via string
		op      time.Duration
		keep    bool // the end of the move before is this one's start
	}{
		{what: "to standard", to: "standard", via: "vcenter"},
		{what: "to distributed", to: "distributed", via: "vcenter", keep: true},
		{what: "to standard, directly on the host", to: "standard", via: "esxi"},
		{what: fmt.Sprintf("to standard, each change takes the host %v", hostOp), to: "standard", via: "vcenter", op: hostOp},
	} {
		if !c.keep {
			if err := l.fresh(ctx, 0, c.op); err != nil {
				return err
			}
		}
		m, err := l.move(ctx, l.config, c.to, c.via)
		if err != nil {
			return err
		}
		b.rep.memory(m)
		q.Labctl = append(q.Labctl, labctlCount{What: c.what, HostOpMs: ms(c.op), Counted: m.counted, Claimed: m.claimed})
	}

	if err := l.fresh(ctx, 0, 0); err != nil {
		return err
	}
	skip, err := l.missing(ctx)
	if err != nil {
		return err
	}
	for name := range skip {
		b.rep.Notes = append(b.rep.Notes, fmt.Sprintf("govc %s is left out: it panics on the type that the simulator gives a distributed switch", name))
	}
	slices.Sort(b.rep.Notes)
	if q.Govc, err = b.govcCount(ctx, l, byName, skip); err != nil {
		return err
	}
	if q.GovcPaths, err = b.govcCount(ctx, l, byPath, skip); err != nil {
		return err
	}
	q.Ratio = float64(q.Govc.Total) / float64(q.Labctl[0].Counted)
	return nil
}

func (b *bench) govcCount(ctx context.Context, l *lab, at func(string) hostFlag, skip map[string]bool) (govcCount, error) {
	var g govcCount
	if err := l.fresh(ctx, 0, 0); err != nil {
		return g, err
	}
	s, err := l.state(ctx)
	if err != nil {
		return g, err
	}
	list := sequence(s, at(s.Hosts[0].Name), skip)
	requests, _, err := l.govc(ctx, list)
	if err != nil {
		return g, err
	}
	for i, n := range requests {
		g.Total += n
		g.Commands = append(g.Commands, commandCount{Command: list[i].String(), Requests: n})
	}
	b.skip = skip
	return g, nil
}

// wall times both sides in turn, so that whatever else the machine does strikes both.
func (b *bench) wall(ctx context.Context, l *lab) error {
	var to, back, govc []time.Duration
	for i := range b.runs {
		if err := l.fresh(ctx, rtt, 0); err != nil {
			return err
		}
		for _, d := range []struct {
			to   string
			took *[]time.Duration
		}{{"standard", &to}, {"distributed", &back}} {
			m, err := l.move(ctx, l.config, d.to, "vcenter")
			if err != nil {
				return err
			}
			b.rep.memory(m)
			*d.took = append(*d.took, m.took)
		}
		if i >= (b.runs+1)/2 { // a run of govc takes ten times as long
			continue
		}
		if err := l.fresh(ctx, rtt, 0); err != nil {
			return err
		}
		s, err := l.state(ctx)
		if err != nil {
			return err
		}
		_, took, err := l.govc(ctx, sequence(s, byName(s.Hosts[0].Name), b.skip))
		if err != nil {
			return err
		}
		govc = append(govc, took)
	}
	b.rep.Wall = times{RTTMs: ms(rtt), ToStandard: spreadOf(to), ToDistributed: spreadOf(back), Govc: spreadOf(govc),
		Ratio: float64(median(govc)) / float64(median(to))}
	return nil
}

// outages measures how long the last of the VMs had no network, by labsim's clock.
func (b *bench) outages(ctx context.Context, l *lab) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far, err := l.behind(ctx, rtt)
	if err != nil {
		return err
	}
	for _, op := range []time.Duration{0, hostOp} {
		runs, govcRuns := b.runs, max(1, b.runs/2)
		if op > 0 { // govc takes ten seconds
			runs, govcRuns = max(1, b.runs*3/5), 1
		}
		b.say("VM outage with %d VMs, %v per request and %v per change of the host", l.vms, rtt, op)
		var ours, wired, theirs []time.Duration
		for i := range runs {
			for _, c := range []struct {
				config string
				rtt    time.Duration
				dark   *[]time.Duration
			}{{l.config, rtt, &ours}, {far, 0, &wired}} {
				if err := l.fresh(ctx, c.rtt, op); err != nil {
					return err
				}
				m, err := l.move(ctx, c.config, "standard", "vcenter")
				if err != nil {
					return fmt.Errorf("measuring the outage: %w", err)
				}
				b.rep.memory(m)
				*c.dark = append(*c.dark, m.dark)
			}
			if i >= govcRuns {
				continue
			}
			dark, err := l.govcOutage(ctx, op)
			if err != nil {
				return fmt.Errorf("measuring the outage with govc: %w", err)
			}
			theirs = append(theirs, dark)
		}
		b.rep.Outage = append(b.rep.Outage, outage{VMs: l.vms, RTTMs: ms(rtt), HostOpMs: ms(op), LimitMs: ms(op + 2*rtt),
			Labctl: spreadOf(ours), Wired: spreadOf(wired), Govc: spreadOf(theirs)})
	}
	return nil
}

// govcOutage has the standard switch ready, as a careful user would, swaps the uplink and lets govc move the VMs.
func (l *lab) govcOutage(ctx context.Context, op time.Duration) (time.Duration, error) {
	if err := l.fresh(ctx, 0, 0); err != nil {
		return 0, err
	}
	s, err := l.state(ctx)
	if err != nil {
		return 0, err
	}
	if _, _, err := l.govc(ctx, prepare(s, byName(s.Hosts[0].Name))); err != nil {
		return 0, err
	}
	if err := l.slow(ctx, rtt, op); err != nil {
		return 0, err
	}
	if err := l.swap(ctx, s); err != nil {
		return 0, err
	}
	if _, _, err := l.govc(ctx, edits(s)); err != nil {
		return 0, err
	}
	if s, err = l.state(ctx); err != nil {
		return 0, err
	}
	if wrong := s.Hosts[0].moved("standard", l.vms); wrong != "" {
		return 0, fmt.Errorf("after govc: %s", wrong)
	}
	return s.Hosts[0].lastLight(), nil
}

func (b *bench) growth(ctx context.Context, l *lab) error {
	if err := l.fresh(ctx, 0, 0); err != nil {
		return err
	}
	m, err := l.move(ctx, l.config, "standard", "vcenter")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // a size that does not work is a result, and the other questions can still be answered
		b.rep.Growth = append(b.rep.Growth, growth{VMs: l.vms, Failed: err.Error()})
		return nil
	}
	b.rep.memory(m)
	looks := looks(m.calls)
	b.rep.Growth = append(b.rep.Growth, growth{VMs: l.vms, Requests: m.counted, Rest: m.counted - l.vms, Looks: looks,
		Fixed: m.counted - l.vms - looks, Seconds: m.took.Seconds(), MemoryMB: mb(m.rss)})
	return nil
}

// looks counts the requests by which labctl looked after edits that had not ended when it read the host back: reads
// after the first one that follows the last edit, and waiting. How many there are depends on how long a host takes,
// not on how many VMs it has, and one that is done at once needs none.
func looks(calls []string) int {
	last := len(calls) - 1
	for ; last >= 0 && calls[last] != "ReconfigVM_Task"; last-- {
	}
	reads, waits := 0, 0
	for _, c := range calls[last+1:] {
		switch c {
		case "RetrievePropertiesEx":
			reads++
		case "CreateFilter", "WaitForUpdatesEx":
			waits++
		}
	}
	return max(0, reads-1) + waits
}

// start starts labctl and the minimal program in turn.
func (b *bench) start(ctx context.Context) error {
	env, err := b.emptyHome()
	if err != nil {
		return err
	}
	took := map[string][]time.Duration{}
	for i := range b.starts + 2 {
		for _, p := range [][]string{{"labctl", "version"}, {"minimal"}} {
			r, err := b.bin.run(ctx, env, p[0], p[1:]...)
			if err != nil {
				return fmt.Errorf("measuring the start: %w", err)
			}
			if i >= 2 { // the first two bring the files into memory
				took[p[0]] = append(took[p[0]], r.took)
			}
		}
	}
	b.rep.Start = start{Labctl: spreadOf(took["labctl"]), Minimal: spreadOf(took["minimal"]),
		Ratio: float64(median(took["labctl"])) / float64(median(took["minimal"]))}
	return nil
}

// median is the middle one, or the mean of the two in the middle; 0 of nothing.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func spreadOf(d []time.Duration) spread {
	if len(d) == 0 {
		return spread{}
	}
	return spread{Runs: len(d), MedianMs: ms(median(d)), MinMs: ms(slices.Min(d)), MaxMs: ms(slices.Max(d))}
}

func ms(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
