//go:build linux

package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// run runs a program that has to succeed, and returns what it said.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// said collects what a program says, to be read while it still runs.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// labctl is one run of the program itself.
type labctl struct {
	cmd            *exec.Cmd
	stdout, stderr said
	ended          chan struct{}
}

// start runs labctl as a machine without a user or a configuration does.
func start(t *testing.T, env []string, args ...string) *labctl {
	t.Helper()
	return startAs(t, nil, env, args...)
}

// startAs runs it as another user.
func startAs(t *testing.T, user *syscall.Credential, env []string, args ...string) *labctl {
	t.Helper()
	l := &labctl{cmd: exec.Command("/bin/labctl", args...), ended: make(chan struct{})}
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	l.cmd.Env = append([]string{"PATH=/bin"}, env...)
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	// What outlives labctl, its watchdog above all, does not hold up the test.
	l.cmd.WaitDelay = 100 * time.Millisecond
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.ended)
		if err := l.cmd.Wait(); err != nil && l.cmd.ProcessState == nil {
			_, _ = l.stderr.Write([]byte(err.Error()))
		}
	}()
	t.Cleanup(func() { _ = l.cmd.Process.Kill() })
	return l
}

// over says that it has ended.
func (l *labctl) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// exit waits for the end and returns the exit code.
func (l *labctl) exit(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-l.ended:
		return l.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("labctl %.80q is not done after %s: %s", l.cmd.Args[1:], limit, l.stderr.String())
		return 0
	}
}

// labctlOK runs labctl, which has to succeed, and returns its stdout.
func labctlOK(t *testing.T, env []string, args ...string) string {
	t.Helper()
	l := start(t, env, args...)
	if code := l.exit(t, patience); code != 0 {
		t.Fatalf("labctl %q: exit %d\n%s%s", args, code, l.stdout.String(), l.stderr.String())
	}
	return l.stdout.String()
}

// up sets the keyboard up with labctl, and takes it down after the test.
func up(t *testing.T) {
	t.Helper()
	labctlOK(t, nil, "hid", "up")
	t.Cleanup(func() {
		labctlOK(t, nil, "hid", "down")
		waitGone(t)
		noGadgets(t)
	})
}

// processes returns the names of processes that have to do with labctl.
func processes() (names []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, p := range all {
		b, err := os.ReadFile(p)
		name := strings.TrimSpace(string(b))
		if err == nil && (name == "labctl" || strings.Contains(name, "watchdog") && strings.HasPrefix(name, "hid")) {
			names = append(names, name)
		}
	}
	return names
}

func lastJSON(t *testing.T, out string, v any) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), v); err != nil {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("%v in %q", errors.Unwrap(err), out)
		}
	}
}
