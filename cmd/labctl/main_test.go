package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi/sim/labproc"
)

func TestMain(m *testing.M) {
	testscript.Main(cleaning{m}, map[string]func(){"labctl": main, watchdogName: main})
}

// cleaning removes the programs that the tests built.
type cleaning struct{ *testing.M }

func (c cleaning) Run() int {
	defer labproc.Clean()
	return c.M.Run()
}

// testEnv is a process without a terminal, with its own home and no variables
// but those given as name=value.
func testEnv(t *testing.T, variables ...string) *env {
	t.Helper()
	vars := map[string]string{"HOME": t.TempDir()}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	return &env{
		stdin: strings.NewReader(""), stdout: new(bytes.Buffer), stderr: new(bytes.Buffer),
		lookup:   func(name string) (string, bool) { v, ok := vars[name]; return v, ok },
		terminal: func(any) bool { return false },
		tty:      func() (*os.File, error) { return nil, errors.New("no terminal") },
		now:      time.Now,
		signals:  func(chan<- os.Signal) func() { return func() {} },
	}
}

// invoke runs one command line.
func invoke(t *testing.T, e *env, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	e.args = args
	e.stdout, e.stderr = new(bytes.Buffer), new(bytes.Buffer)
	code = run(t.Context(), e)
	return code, e.stdout.(*bytes.Buffer).String(), e.stderr.(*bytes.Buffer).String()
}

func writeTemp(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tlsServer answers every TLS handshake with a certificate of its own, and
// every request with 404: enough of a host for what happens before a login.
func tlsServer(t testing.TB) *httptest.Server {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that end early are the point
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// An interrupt cancels the command and lets it finish; the code is 130, unless
// the command knows better.
func TestInterrupt(t *testing.T) {
	for name, tc := range map[string]struct {
		end  error
		want int
	}{
		"cancelled":           {context.Canceled, exitInterrupted},
		"finished regardless": {nil, exitDone},
		"left something":      {exitWith(exitChanged, errors.New("vmk0 is gone")), exitChanged},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEnv(t)
			sent := make(chan chan<- os.Signal, 1)
			e.signals = func(c chan<- os.Signal) func() { sent <- c; return func() {} }
			got := runWith(e, func(ctx context.Context, _ *app) error {
				(<-sent) <- os.Interrupt
				<-ctx.Done()
				return tc.end
			})
			if got != tc.want {
				t.Errorf("exit %d, want %d", got, tc.want)
			}
			if s := e.stderr.(*bytes.Buffer).String(); !strings.Contains(s, "a second ctrl-c") {
				t.Errorf("the first interrupt does not say what a second one does: %q", s)
			}
		})
	}
}

// The second interrupt ends a command that hangs, and says what it leaves. A
// lost terminal is never the second one.
func TestSecondInterrupt(t *testing.T) {
	e := testEnv(t)
	sent := make(chan chan<- os.Signal, 1)
	e.signals = func(c chan<- os.Signal) func() { sent <- c; return func() {} }
	hang := make(chan struct{})
	defer close(hang)
	got := runWith(e, func(ctx context.Context, a *app) error {
		c := <-sent
		a.leaving("the whole journal")
		c <- os.Interrupt
		<-ctx.Done()
		c <- syscall.SIGHUP
		for len(c) > 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond) // a hang-up that ended it would have done so with the first text
		a.leaving("journal %s", "nuc01-1.jsonl")
		c <- os.Interrupt
		<-hang
		return nil
	})
	if got != exitInterrupted {
		t.Errorf("exit %d, want %d", got, exitInterrupted)
	}
	if s := e.stderr.(*bytes.Buffer).String(); !strings.Contains(s, "what is left: journal nuc01-1.jsonl") {
		t.Errorf("the second interrupt does not say what is left: %q", s)
	}
}

// runWith runs body as the work of a command.
func runWith(e *env, body func(context.Context, *app) error) int {
	return runCommand(context.Background(), e, func(ctx context.Context, a *app) int {
		a.set.Output = "text"
		err := body(ctx, a)
		a.report(ctx, err)
		return exitCode(ctx, err)
	})
}

// Each command shows its help with an example, and each noun alone too.
func TestEveryCommandHasAnExample(t *testing.T) {
	a := &app{env: testEnv(t)}
	walkCommands(a.root(), func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		if c.Example == "" || !strings.Contains(c.Example, c.CommandPath()) && !c.HasSubCommands() {
			t.Errorf("%s: its example is %q", c.CommandPath(), c.Example)
		}
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		if !c.HasSubCommands() && c.RunE == nil {
			t.Errorf("%s does nothing", c.CommandPath())
		}
	})
}

// Stderr keeps to 400 characters a line whatever a server says.
func TestLongErrors(t *testing.T) {
	e := testEnv(t)
	runWith(e, func(context.Context, *app) error {
		return errors.New("start " + strings.Repeat("palaver ", 200) + strings.Repeat("x", 900) + "\x1b]0;title\x07 end")
	})
	out := e.stderr.(*bytes.Buffer).String()
	for _, line := range strings.Split(out, "\n") {
		if n := len([]rune(line)); n > maxLine {
			t.Errorf("a line of %d characters", n)
		}
	}
	if !strings.HasPrefix(out, "labctl: start ") || !strings.HasSuffix(out, " end\n") {
		t.Errorf("words were lost: %.40q … %.40q", out, out[len(out)-40:])
	}
	if strings.ContainsAny(out, "\x1b\x07") {
		t.Error("control characters reach the terminal")
	}
}

func TestColour(t *testing.T) {
	for _, tc := range []struct {
		flag, noColor, termName string
		terminal, want          bool
	}{
		{"auto", "", "xterm", true, true},
		{"auto", "", "xterm", false, false},
		{"auto", "1", "xterm", true, false},
		{"auto", "", "dumb", true, false},
		{"always", "1", "dumb", false, true},
		{"never", "", "xterm", true, false},
		{"auto", "", "dumb", false, false},
	} {
		e := testEnv(t, "NO_COLOR="+tc.noColor, "TERM="+tc.termName)
		e.terminal = func(any) bool { return tc.terminal }
		a := &app{env: e, set: settings{Color: tc.flag}}
		if got := a.colour(e.stdout); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// A table is aligned the same with and without colour, and a name from another
// machine cannot break out of its cell.
func TestTable(t *testing.T) {
	table := table{header: []string{"NAME", "STATE"}}
	table.row(plain, "nuc01", "ok")
	table.row(red, "a\x1b[2Jb\nc", "down")
	var p, coloured page
	coloured.colour = true
	table.write(&p)
	table.write(&coloured)
	want := "NAME      STATE\nnuc01     ok\na�[2Jb�c  down\n"
	if got := p.String(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	stripped := strings.NewReplacer("\x1b[2m", "", "\x1b[31m", "", styleEnd, "").Replace(coloured.String())
	if stripped != want || stripped == coloured.String() {
		t.Errorf("with colour: %q", coloured.String())
	}
}

// With -o json a single result is indented; behind events it is the last line.
func TestJSONStream(t *testing.T) {
	e := testEnv(t)
	a := &app{env: e, set: settings{Output: "json"}}
	if err := errors.Join(a.event(map[string]int{"step": 1}), a.event(map[string]int{"step": 2}), a.result(map[string]any{"version": 1, "html": "<&>"}, nil)); err != nil {
		t.Fatal(err)
	}
	want := "{\"step\":1}\n{\"step\":2}\n{\"html\":\"<&>\",\"version\":1}\n"
	if got := e.stdout.(*bytes.Buffer).String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVersion(t *testing.T) {
	code, out, errText := invoke(t, testEnv(t, "LABCTL_CONFIG=/nowhere/at/all", "GOVC_URL=https://root:secret@x"), "version", "-o", "json")
	var v versionResult
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 {
		t.Fatalf("exit %d, %v, stderr %q", code, err, errText)
	}
	if v.Version != 1 || !strings.HasPrefix(v.Go, "go1.") || v.Platform == "" {
		t.Errorf("got %+v", v)
	}
}

// Nothing is asked where stdin is no terminal, even if there is a /dev/tty, and
// the error names what to give instead.
func TestNoPromptWithoutTerminal(t *testing.T) {
	e := testEnv(t)
	e.tty = func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) }
	a := &app{env: e}
	_, err := a.askSecret(t.Context(), "password of root on nuc01:", "LABCTL_PASSWORD")
	if exitCode(t.Context(), err) != exitUsage || !strings.Contains(err.Error(), "give LABCTL_PASSWORD") {
		t.Errorf("got %v", err)
	}
	ok, err := a.confirm(t.Context(), "go on?")
	if ok || exitCode(t.Context(), err) != exitUsage || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("confirm: %v, %v", ok, err)
	}
	a.yes = true
	if ok, err := a.confirm(t.Context(), "go on?"); !ok || err != nil {
		t.Errorf("confirm --yes: %v, %v", ok, err)
	}
}

// readLine must leave the next line to the next question.
func TestReadLine(t *testing.T) {
	r := strings.NewReader("one\ntwo\nlast")
	for _, want := range []string{"one", "two"} {
		if got, err := readLine(r); got != want || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if _, err := readLine(r); !errors.Is(err, io.EOF) {
		t.Errorf("an unfinished line is an answer: %v", err)
	}
}

func TestLock(t *testing.T) {
	e := testEnv(t)
	a, b := &app{env: e}, &app{env: e}
	unlock, err := a.lock("host nuc01", "net apply")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.lock("host nuc01", "net rollback"); err == nil || !strings.Contains(err.Error(), "in use by process") || !strings.Contains(err.Error(), "labctl net apply, since ") {
		t.Errorf("second lock: %v", err)
	}
	other, err := b.lock("host nuc02", "net apply")
	if err != nil {
		t.Errorf("another host is locked too: %v", err)
	} else {
		other()
	}
	unlock()
	again, err := b.lock("host nuc01", "net rollback")
	if err != nil {
		t.Fatalf("after the unlock: %v", err)
	}
	again()
	dir, _ := e.baseDir("XDG_STATE_HOME", ".local/state")
	info, err := os.Stat(filepath.Join(dir, "labctl", "locks"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("locks folder: %v, %v", info, err)
	}
	if lockFile("vm://a/b") == lockFile("vm://a%2Fb") || strings.Contains(lockFile("../x"), "/") {
		t.Error("lock names collide or leave the folder")
	}
}

// Two starts at the same moment: exactly one gets the lock.
func TestLockRace(t *testing.T) {
	e := testEnv(t)
	var wg sync.WaitGroup
	unlocks := make([]func(), 8) // kept: a lock that nobody holds on to may be collected
	for i := range unlocks {
		wg.Go(func() { unlocks[i], _ = (&app{env: e}).lock("host nuc01", "net apply") })
	}
	wg.Wait()
	n := 0
	for _, unlock := range unlocks {
		if unlock != nil {
			n++
			unlock()
		}
	}
	if n != 1 {
		t.Errorf("%d of 8 got the lock", n)
	}
}
