package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi/sim/labproc"
)

// lab is a labsim process and a labctl that is set up for it.
type lab struct {
	*labproc.Lab
	t       testing.TB
	program string // labctl
	config  string
	state   string // $XDG_STATE_HOME
}

// startLab starts labsim and waits until it is ready.
func startLab(t testing.TB, args ...string) *lab {
	t.Helper()
	program, err := labproc.Program("labctl")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	p, err := labproc.Start(home, append([]string{"--rollback-after", "200ms", "--lost-after", "100ms", "--reconnect-after", "50ms"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &lab{Lab: p, t: t, program: program, config: p.Config, state: filepath.Join(home, "state")}
}

func (l *lab) call(method, path, body string) []byte {
	l.t.Helper()
	b, err := l.Ask(method, path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// arm arms one fault, given as JSON.
func (l *lab) arm(fault string) { l.t.Helper(); l.call("POST", "/fault", fault) }

// heal disarms every fault and mends the cable.
func (l *lab) heal() { l.t.Helper(); l.call("DELETE", "/fault", "") }

// reset puts the lab and labctl's own files back to the beginning.
func (l *lab) reset() {
	l.t.Helper()
	l.call("POST", "/reset", "")
	if err := os.RemoveAll(l.state); err != nil {
		l.t.Fatal(err)
	}
}

// labState is what the tests look at in GET /state.
type labState struct {
	Hosts []struct {
		Name            string
		ConnectionState string
		Management      struct {
			SwitchKind, Switch, Portgroup, Reason string
			VLAN                                  int
			Reachable                             bool
		}
		Switches, ProxySwitches, Portgroups, Vmkernels json.RawMessage
		VMs                                            []struct {
			Name string
			NICs []struct {
				Switch, SwitchKind, Portgroup, MAC string
				Connected, Lit                     bool
				DarkMs                             int
			}
		}
	}
	DVS      json.RawMessage
	Held     int
	Requests struct{ Calls []string }
}

func (l *lab) look() *labState {
	l.t.Helper()
	var st labState
	if err := json.Unmarshal(l.call("GET", "/state", ""), &st); err != nil {
		l.t.Fatal(err)
	}
	return &st
}

// signature is a host's configuration without what changes by itself.
func (st *labState) signature() string {
	h := st.Hosts[0]
	var b strings.Builder
	for _, raw := range []json.RawMessage{h.Switches, h.ProxySwitches, h.Portgroups, h.Vmkernels} {
		var compact bytes.Buffer
		json.Compact(&compact, raw)
		fmt.Fprintln(&b, compact.String())
	}
	for _, vm := range h.VMs {
		for _, n := range vm.NICs {
			fmt.Fprintln(&b, vm.Name, n.Switch, n.SwitchKind, n.Portgroup, n.MAC, n.Connected)
		}
	}
	return b.String()
}

// answer is one labctl run, from outside.
type answer struct {
	code           int
	stdout, stderr string
}

func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(l.program, args...)
	cmd.Env = []string{"HOME=" + filepath.Dir(l.config), "LABCTL_CONFIG=" + l.config, "XDG_STATE_HOME=" + l.state, "NO_COLOR=1", "PATH=" + os.Getenv("PATH")}
	return cmd
}

// run runs labctl as a process of its own and checks what holds for every run:
// no panic, no long line, no secret.
func (l *lab) run(args ...string) answer {
	l.t.Helper()
	cmd := l.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	r := answer{}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatal(err)
	}
	r.code, r.stdout, r.stderr = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	for _, line := range strings.Split(r.stderr, "\n") {
		if len([]rune(line)) > maxLine {
			l.t.Errorf("labctl %v: a line on stderr of %d characters: %s", args, len([]rune(line)), line)
		}
	}
	for _, bad := range []string{"panic:", "goroutine ", "ServerFaultCode", "soap:"} {
		if strings.Contains(r.stdout+r.stderr, bad) {
			l.t.Errorf("labctl %v prints %q:\n%s%s", args, bad, r.stdout, r.stderr)
		}
	}
	for _, secret := range l.secrets() {
		if strings.Contains(r.stdout+r.stderr, secret) {
			l.t.Errorf("labctl %v prints a password", args)
		}
	}
	return r
}

func (l *lab) secrets() (out []string) {
	files, _ := filepath.Glob(l.config + ".*.password")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			out = append(out, strings.TrimSpace(string(b)))
		}
	}
	return out
}

// noSecretsKept fails when a file that labctl keeps holds a password.
func (l *lab) noSecretsKept() {
	l.t.Helper()
	filepath.WalkDir(l.state, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			for _, s := range l.secrets() {
				if bytes.Contains(b, []byte(s)) {
					l.t.Errorf("%s holds a password", path)
				}
			}
		}
		return nil
	})
}

// sure is what makes apply and rollback go ahead without a person.
var sure = []string{"--yes", "--accept-risk=lose-management", "-o", "json"}

func with(verb string, args ...string) []string {
	return append(append([]string{"net", verb, "nuc01"}, args...), sure...)
}

// eventually waits until ok, for what happens on its own time in the lab.
func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain: %s", what)
		}
	}
}
