package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startLimit bounds the start of labsim. With 300 VMs it takes a second or two on two cores.
const startLimit = 30 * time.Second

// stopLimit is what labsim gets to end by itself before it is killed.
const stopLimit = 5 * time.Second

// programs are the binaries under test, built into one directory.
type programs struct{ dir string }

// built lists the packages that are built, by import path so that any directory of the module will do.
var built = []string{"cmd/labctl", "cmd/labsim", "bench/check", "bench/govc", "bench/minimal", "bench/swap"}

func build(ctx context.Context, dir string) (*programs, error) {
	args := []string{"build", "-trimpath", "-o", dir + string(filepath.Separator)}
	for _, p := range built {
		args = append(args, "github.com/labctl/labctl/"+p)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does it
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building: %w\n%s", err, out)
	}
	return &programs{dir}, nil
}

func (p *programs) path(name string) string { return filepath.Join(p.dir, name) }

// ran is a process that has ended.
type ran struct {
	out  []byte        // stdout
	errs []byte        // stderr
	took time.Duration // from its start until it was waited for
	rss  int64         // most memory it had resident, in bytes
}

// run runs a program with exactly this environment, and fails if the program does.
func (p *programs) run(ctx context.Context, env []string, name string, args ...string) (*ran, error) {
	return p.watched(ctx, env, nil, name, args...)
}

// watched is run with somebody who gets stdout as it comes.
func (p *programs) watched(ctx context.Context, env []string, watch io.Writer, name string, args ...string) (*ran, error) {
	cmd := exec.CommandContext(ctx, p.path(name), args...)
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if watch != nil {
		cmd.Stdout = io.MultiWriter(&out, watch)
	}
	start := time.Now()
	err := cmd.Run()
	r := &ran{out: out.Bytes(), errs: errs.Bytes(), took: time.Since(start)}
	if cmd.ProcessState != nil {
		r.rss = maxRSS(cmd.ProcessState)
	}
	if err != nil {
		return r, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args[:min(2, len(args))], " "), err, complaint(r.errs))
	}
	return r, nil
}

// maxRSS is ru_maxrss in bytes: Linux and the BSDs count in KiB, Darwin in bytes (getrusage(2) of each). Before exec a
// child counts as its parent, so the figure is never below the benchmark's own, which is kept small for that reason.
func maxRSS(s *os.ProcessState) int64 {
	u, ok := s.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) * 1024
}

// complaint is the last line of stderr that is not a hint.
func complaint(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, line := range slices.Backward(lines) {
		if !strings.Contains(line, "hint: ") {
			return line
		}
	}
	return ""
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// lab is a labsim process.
type lab struct {
	bin     *programs
	vms     int
	dir     string // of this lab: configuration, passwords, and a home for each run
	config  string // labctl.yaml
	control string // http://ADDR
	vcenter string // URL
	user    string
	home    string // $HOME of what runs now
	homes   int

	cancel context.CancelFunc
	ended  chan struct{}
	last   string // what it said last and how it ended; to be read once ended is closed
}

func startLab(ctx context.Context, bin *programs, vms int, more ...string) (*lab, error) {
	dir, err := os.MkdirTemp(bin.dir, "lab-")
	if err != nil {
		return nil, fmt.Errorf("making room for a lab: %w", err)
	}
	l := &lab{bin: bin, vms: vms, dir: dir, config: filepath.Join(dir, "labctl.yaml"), ended: make(chan struct{})}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe to labsim: %w", err)
	}
	ctx, l.cancel = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, bin.path("labsim"), append([]string{"--vms", strconv.Itoa(vms), "--write-config", l.config}, more...)...)
	cmd.Env = environ(dir)
	cmd.Stdout, cmd.Stderr = pw, pw // one pipe keeps the lines in order: ready is the last
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	if err := cmd.Start(); err != nil {
		l.cancel()
		pr.Close()
		pw.Close()
		return nil, fmt.Errorf("starting labsim: %w", err)
	}
	pw.Close()
	said := bufio.NewScanner(pr)
	_ = pr.SetReadDeadline(time.Now().Add(startLimit)) // where a pipe takes none, labsim's end ends the wait
	ready := l.greet(said)
	_ = pr.SetReadDeadline(time.Time{})
	go func() {
		defer close(l.ended)
		for n := 0; said.Scan(); n++ { // read on, so that a full pipe does not stop it
			if n == 0 || strings.HasPrefix(said.Text(), "panic: ") {
				l.last = said.Text()
			}
		}
		pr.Close()
		if err := cmd.Wait(); err != nil {
			l.last = fmt.Sprintf("%v %s", err, l.last)
		}
	}()
	if !ready {
		l.stop()
		return nil, fmt.Errorf("labsim was not ready within %v: %s", startLimit, l.last)
	}
	return l, nil
}

// greet reads what labsim says until it is ready.
func (l *lab) greet(said *bufio.Scanner) bool {
	for said.Scan() {
		f := strings.Fields(said.Text())
		switch {
		case len(f) == 1 && f[0] == "ready":
			return l.control != "" && l.vcenter != ""
		case len(f) == 2 && f[0] == "control":
			l.control = f[1]
		case len(f) > 3 && f[0] == "vcenter":
			l.vcenter, l.user = f[1], f[3]
		}
		l.last = said.Text()
	}
	return false
}

// stop ends labsim and waits until it is gone.
func (l *lab) stop() {
	l.cancel()
	<-l.ended
}

// environ is all the environment that a program under test gets: none of the user's configuration reaches it.
func environ(home string, more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home,
		"XDG_STATE_HOME=" + filepath.Join(home, "state"), "XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "XDG_DATA_HOME=" + filepath.Join(home, "data")}, more...)
}

// state is what the benchmark reads of labsim's GET /state.
type state struct {
	Hosts    []host `json:"hosts"`
	Requests struct {
		Total int              `json:"total"`
		Calls []string         `json:"calls"` // names of the methods, the first 5000
		Bytes map[string]int64 `json:"bytes"` // uploaded to datastores, by path
	} `json:"requests"`
	VCHs []struct {
		Name  string `json:"name"`
		Phase string `json:"phase"` // off, booting, up or failed
	} `json:"vchs"`
	Files []struct {
		Path string `json:"path"`
	} `json:"files"`
	DVS []struct {
		Name       string `json:"name"`
		Portgroups []struct {
			Name string `json:"name"`
			VLAN int    `json:"vlan"`
		} `json:"portgroups"`
	} `json:"dvs"`
}

type host struct {
	Name       string `json:"name"`
	Management struct {
		SwitchKind string `json:"switchKind"`
		VLAN       int    `json:"vlan"`
		Reachable  bool   `json:"reachable"`
	} `json:"management"`
	VMs []struct {
		Name string `json:"name"`
		NICs []struct {
			SwitchKind string `json:"switchKind"`
			Portgroup  string `json:"portgroup"`
			Lit        bool   `json:"lit"`
			DarkMs     int64  `json:"darkMs"`
		} `json:"nics"`
	} `json:"vms"`
}

// moved says what is not as it should be after a move to that kind of switch, "" if all is.
func (h *host) moved(kind string, vms int) string {
	switch {
	case h.Management.SwitchKind != kind:
		return "vmk0 is on a " + h.Management.SwitchKind + " switch"
	case !h.Management.Reachable:
		return "vmk0 is unreachable"
	case len(h.VMs) != vms:
		return fmt.Sprintf("%d VMs instead of %d", len(h.VMs), vms)
	}
	return h.vmsMoved(kind)
}

func (h *host) vmsMoved(kind string) string {
	for _, v := range h.VMs {
		for _, n := range v.NICs {
			if n.SwitchKind != kind || !n.Lit {
				return v.Name + " was left behind"
			}
		}
	}
	return ""
}

// lastLight is how long the VM that waited longest had no network.
func (h *host) lastLight() time.Duration {
	var ms int64
	for _, v := range h.VMs {
		for _, n := range v.NICs {
			ms = max(ms, n.DarkMs)
		}
	}
	return time.Duration(ms) * time.Millisecond
}

func (l *lab) state(ctx context.Context) (*state, error) {
	var s state
	if err := l.ask(ctx, http.MethodGet, "/state", nil, &s); err != nil {
		return nil, err
	}
	if len(s.Hosts) != 1 {
		return nil, fmt.Errorf("the lab has %d hosts, not one", len(s.Hosts))
	}
	return &s, nil
}

// fresh puts the lab back to its start, with delays for each request and each change, and gives what runs next an
// empty home: no journals, no sessions.
func (l *lab) fresh(ctx context.Context, rtt, op time.Duration) error {
	l.homes++
	l.home = filepath.Join(l.dir, fmt.Sprintf("home-%d", l.homes))
	if err := os.Mkdir(l.home, 0o700); err != nil {
		return fmt.Errorf("making a home: %w", err)
	}
	if err := l.ask(ctx, http.MethodPost, "/reset", nil, nil); err != nil {
		return err
	}
	return l.slow(ctx, rtt, op)
}

// slow arms the delays; zero ones are left out.
func (l *lab) slow(ctx context.Context, rtt, op time.Duration) error {
	for fault, d := range map[string]time.Duration{"delay": rtt, "op-delay": op} {
		if d == 0 {
			continue
		}
		if err := l.ask(ctx, http.MethodPost, "/fault", map[string]any{"fault": fault, "ms": d.Milliseconds()}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) ask(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("asking labsim for %s: %w", path, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, l.control+path, &body)
	if err != nil {
		return fmt.Errorf("asking labsim for %s: %w", path, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		select {
		case <-l.ended:
			return fmt.Errorf("asking labsim for %s: it has ended: %s", path, l.last)
		default:
			return fmt.Errorf("asking labsim for %s: %w", path, err)
		}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000)) // what there is of it helps, the rest is no loss
		return fmt.Errorf("asking labsim for %s: %s: %s", path, res.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("reading labsim's answer to %s: %w", path, err)
	}
	return nil
}

// move is one labctl net apply that did what it should.
type move struct {
	counted int           // requests, by labsim
	claimed int           // requests, by labctl
	calls   []string      // their methods
	took    time.Duration // of the process
	dark    time.Duration // of the VM that waited longest
	rss     int64         // bytes
}

// move runs labctl and makes sure by labsim's word that everything has moved.
func (l *lab) move(ctx context.Context, config, to, via string) (*move, error) {
	before, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	r, err := l.bin.run(ctx, environ(l.home), "labctl", "net", "apply", before.Hosts[0].Name, "--to", to, "--via", via,
		"--config", config, "-o", "json", "--yes", "--accept-risk=lose-management")
	if err != nil {
		return nil, err
	}
	var result struct {
		Outcome  string `json:"outcome"`
		Requests int    `json:"requests"`
	}
	if err := json.Unmarshal([]byte(lastLine(r.out)), &result); err != nil {
		return nil, fmt.Errorf("reading labctl's result: %w", err)
	}
	if result.Outcome != "applied" {
		return nil, fmt.Errorf("labctl's outcome is %q", result.Outcome)
	}
	after, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	h := &after.Hosts[0]
	if wrong := h.moved(to, l.vms); wrong != "" {
		return nil, fmt.Errorf("labctl says applied, but %s", wrong)
	}
	return &move{counted: after.Requests.Total - before.Requests.Total, claimed: result.Requests,
		calls: after.Requests.Calls[len(before.Requests.Calls):], took: r.took, dark: h.lastLight(), rss: r.rss}, nil
}
