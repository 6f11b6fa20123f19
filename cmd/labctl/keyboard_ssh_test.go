package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi/sim/labproc"
	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/internal/skipped"
)

// paper is a console as labsim has them, that keeps what it takes and when.
type paper struct {
	*httptest.Server
	mu     sync.Mutex
	got    []hid.Report
	at     []time.Time
	lights hid.LEDs
	keys   hid.Decoder
}

func newPaper(t *testing.T) *paper {
	r := &paper{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console/nuc01", func(w http.ResponseWriter, _ *http.Request) { r.answer(w) })
	mux.HandleFunc("POST /console/nuc01/report", func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		report, err := hid.ParseReport(string(body))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.got, r.at = append(r.got, report), append(r.at, time.Now())
		for _, e := range r.keys.Decode(report) {
			switch {
			case e.Down && e.Key == hid.KeyNumLock:
				r.lights ^= hid.NumLock
			case e.Down && e.Key == hid.KeyCapsLock:
				r.lights ^= hid.CapsLock
			}
		}
		r.mu.Unlock()
		r.answer(w)
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *paper) answer(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	json.NewEncoder(w).Encode(labsimAnswer{LEDs: byte(r.lights), Screen: "welcome"})
}

// uri is the console as a keyboard.
func (r *paper) uri() string {
	return "sim://" + strings.TrimPrefix(r.URL, "http://") + "/nuc01"
}

// taken forgets what came so far and returns it.
func (r *paper) taken() ([]hid.Report, []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, at := r.got, r.at
	r.got, r.at = nil, nil
	return got, at
}

func (r *paper) allUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[len(r.got)-1] == hid.Report{}
}

func (r *paper) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// farMachine is a machine that one gets to by ssh: a real sshd on loopback, and
// in its PATH a labctl.
type farMachine struct {
	dir  string // of its PATH
	port string
	stop func()
}

// newFarMachine starts sshd, and puts an ssh into this process's PATH whose config
// knows the machine as pi.
func newFarMachine(t *testing.T) *farMachine {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	for _, p := range []string{sshd, "/usr/bin/ssh", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(p); err != nil {
			skipped.Test(t, "keyboards over ssh need OpenSSH's server and client, on Debian openssh-server and openssh-client: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		skipped.Test(t, "keyboards over ssh: sshd wants to be root for a login")
	}
	os.MkdirAll("/run/sshd", 0o755)
	dir := t.TempDir()
	m := &farMachine{dir: filepath.Join(dir, "far")}
	here := filepath.Join(dir, "here")
	for _, d := range []string{m.dir, here} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, m.port, _ = net.SplitHostPort(ln.Addr().String())
	ln.Close()
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "known"), fmt.Sprintf("[127.0.0.1]:%s %s", m.port, public), 0o600)
	write(filepath.Join(dir, "sshd_config"), fmt.Sprintf(`
ListenAddress 127.0.0.1:%s
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
SetEnv PATH=%[3]s:/usr/bin:/bin
`, m.port, dir, m.dir), 0o600)
	write(filepath.Join(dir, "ssh_config"), fmt.Sprintf(`
Host pi
  HostName 127.0.0.1
  Port %s
  User root
  IdentityFile %[2]s/user
Host *
  IdentityAgent none
  IdentitiesOnly yes
  UserKnownHostsFile %[2]s/known
  GlobalKnownHostsFile none
`, m.port, dir), 0o600)
	write(filepath.Join(here, "ssh"), fmt.Sprintf("#!/bin/sh\nexec /usr/bin/ssh -F %s/ssh_config \"$@\"\n", dir), 0o755)
	t.Setenv("PATH", here+":"+os.Getenv("PATH"))

	log, err := os.Create(filepath.Join(dir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.stop = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(m.stop)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+m.port)
		if err == nil {
			c.Close()
			return m
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("sshd does not answer: %v\n%s", err, text)
		}
	}
}

// install puts a labctl there: a script, in which $LABCTL is this program.
func (m *farMachine) install(t *testing.T, script string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(filepath.Dir(m.dir), "labctl")
	if err := os.Symlink(self, bin); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	text := "#!/bin/sh\nLABCTL=" + bin + "\nHOME=" + filepath.Dir(m.dir) + "\nexport HOME\n" + script + "\n"
	path := filepath.Join(m.dir, "labctl")
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// serving is a labctl whose keyboard is a console.
func serving(r *paper) string { return "exec $LABCTL hid serve --stdio --keyboard " + r.uri() }

func TestTypeOverSSH(t *testing.T) {
	m := newFarMachine(t)
	r := newPaper(t)
	// What the far labctl was started with shows that it is what users type.
	m.install(t, `test "$*" = "hid serve --stdio --device /dev/hidg1" || exit 99`+"\n"+serving(r))
	code, stdout, stderr := invoke(t, testEnv(t), "hid", "type", "Ab", "--keyboard", "ssh://pi/dev/hidg1", "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	got, _ := r.taken()
	// The first report releases what an earlier run may have left.
	if s := fmt.Sprint(got); s != "[0000000000000000 0200000000000000 0200040000000000 0200000000000000 0000000000000000 0000050000000000 0000000000000000]" {
		t.Errorf("typed %s", s)
	}
	if !strings.Contains(stdout, `"sent": 6`) {
		t.Errorf("stdout %s", stdout)
	}
}

// The line of authorized_keys in docs/security.md: a key that can type and do
// nothing else.
func TestKeyForTypingAlone(t *testing.T) {
	m := newFarMachine(t)
	r := newPaper(t)
	m.install(t, `test "$*" = "hid serve --stdio --device /dev/hidg0" || exit 99`+"\n"+serving(r))
	guide := regexp.MustCompile(`command="(/usr/local/bin/labctl) (hid serve[^"]*)",restrict `).FindStringSubmatch(guideText("security.md"))
	if guide == nil {
		t.Fatal("the guide has no such line")
	}
	pub := filepath.Join(filepath.Dir(m.dir), "user.pub")
	key, err := os.ReadFile(pub)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf(`command="%s/labctl %s",restrict %s`, m.dir, guide[2], key)
	if err := os.WriteFile(pub, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, testEnv(t), "hid", "type", "a", "--keyboard", "ssh://pi"); code != 0 || r.count() == 0 {
		t.Errorf("typing: exit %d, %s", code, stderr)
	}
	if out, err := exec.Command("ssh", "pi", "echo", "in").Output(); strings.Contains(string(out), "in\n") {
		t.Errorf("the key runs other programs too: %q, %v", out, err)
	}
}

// labctlProcess is a labctl of its own, that holds a key as long as it lives.
func labctlProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "labctl"
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	return cmd
}

// Whoever is killed, and when: no key stays down longer than a second after it,
// and nothing is pressed after that.
func TestKillsOverSSH(t *testing.T) {
	m := newFarMachine(t)
	r := newPaper(t)
	pids := filepath.Join(filepath.Dir(m.dir), "pid")
	m.install(t, "echo $$ >"+pids+"\n"+serving(r))
	rounds := 40 // package kerneltest has 100, with a real gadget
	if testing.Short() {
		rounds = 8
	}
	const second = time.Second
	random := rand.New(rand.NewPCG(1, 2))
	longest, starved := time.Duration(0), 0
	for round := 0; round < rounds; round++ {
		whom := []string{"labctl", "ssh", "hangs", "far"}[round%4]
		os.Remove(pids)
		args := []string{"hid", "type", strings.Repeat("aB", 500), "--hold", "40ms", "--gap", "5ms"}
		if round/4%2 == 1 { // a key that is down for much longer than it may be after the end
			args = []string{"hid", "press", "--hold", "8s", "A", "SHIFT+B"}
		}
		cmd := labctlProcess(t, append(args, "--keyboard", "ssh://pi")...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		over := func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		for end := time.Now().Add(time.Minute); r.count() < 2 && !over(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				cmd.Process.Kill()
				<-done
				t.Fatalf("round %d: nothing is typed: %s", round, stderr.String())
			}
		}
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		if over() {
			// A machine so busy that one end got no processor for the half second after
			// which the other gives up. It is begun again.
			if starved++; starved > rounds || !strings.Contains(stderr.String(), hid.ErrSilence.Error()) {
				t.Fatalf("round %d: labctl broke off: %s", round, stderr.String())
			}
			awaitEnd(t, farLabctl(t, pids))
			r.taken()
			round--
			continue
		}
		switch whom {
		case "labctl":
			cmd.Process.Kill()
		case "far":
			syscall.Kill(farLabctl(t, pids), syscall.SIGKILL)
		case "hangs":
			cmd.Process.Signal(syscall.SIGSTOP)
		case "ssh":
			kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
			var pid int
			if _, scan := fmt.Sscan(string(kids), &pid); err != nil || scan != nil {
				// Any of its threads may have started it.
				pid = childOf(t, cmd.Process.Pid)
			}
			syscall.Kill(pid, syscall.SIGKILL)
		}
		killed := time.Now()
		if far := farLabctl(t, pids); whom == "far" {
			// Its watchdog is what lets go, and is no child of anything here.
			for end := killed.Add(10 * time.Second); !r.allUp() && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			time.Sleep(50 * time.Millisecond) // for a second release, where there was nothing down
		} else {
			awaitEnd(t, far)
		}
		got, at := r.taken()
		if last := got[len(got)-1]; last != (hid.Report{}) {
			t.Fatalf("round %d, %s: %s stays down", round, whom, last)
		}
		up := at[len(at)-1].Sub(killed)
		if up > second {
			t.Errorf("round %d, %s: a key is up %s after the kill", round, whom, up)
		}
		longest = max(longest, up)
		if whom == "hangs" {
			cmd.Process.Signal(syscall.SIGCONT)
		}
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			t.Errorf("round %d, %s: labctl does not end", round, whom)
			cmd.Process.Kill()
			<-done
		}
		if whom != "labctl" {
			if code := cmd.ProcessState.ExitCode(); code != exitChanged {
				t.Errorf("round %d, %s: exit %d: %s", round, whom, code, stderr.String())
			}
		}
		// A watchdog may let go twice.
		if late, _ := r.taken(); slices.ContainsFunc(late, func(r hid.Report) bool { return r != hid.Report{} }) {
			t.Errorf("round %d, %s: keys after the end", round, whom)
		}
	}
	t.Logf("%d kills, the last release at most %s after one; %d runs broke off by themselves", rounds, longest.Round(time.Millisecond), starved)
}

// farLabctl is the far labctl's process.
func farLabctl(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	var pid int
	if _, scan := fmt.Sscan(string(text), &pid); err != nil || scan != nil {
		t.Fatalf("no far labctl: %v", err)
	}
	return pid
}

// awaitEnd waits for the far labctl to end.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the far labctl does not end")
		}
	}
}

func childOf(t *testing.T, parent int) int {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, f := range tasks {
		text, _ := os.ReadFile(f)
		var pid int
		if _, err := fmt.Sscan(string(text), &pid); err == nil {
			return pid
		}
	}
	t.Fatal("ssh is not there")
	return 0
}

// Each way in which a login can fail is one line and the way out.
func TestSSHFaults(t *testing.T) {
	m := newFarMachine(t)
	r := newPaper(t)
	m.install(t, serving(r))
	try := func(name, uri string, code int, want ...string) {
		t.Helper()
		got, stdout, stderr := invoke(t, testEnv(t), "hid", "press", "F2", "--keyboard", uri)
		if got != code || stdout != "" {
			t.Errorf("%s: exit %d, want %d: %s%s", name, got, code, stdout, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%s: stderr lacks %q:\n%s", name, w, stderr)
			}
		}
		if n := r.count(); n != 0 {
			t.Errorf("%s: %d reports were typed", name, n)
			r.taken()
		}
	}
	try("wrong port", "ssh://pi:1", exitFailed, "Connection refused", "hint: is sshd running on pi")
	try("wrong user", "ssh://nobody-here@pi", exitFailed, "Permission denied", "ssh-copy-id")
	try("unknown machine", "ssh://localhost:"+m.port, exitFailed, "Host key verification failed", "log in once by hand")
	try("no name", "ssh://no-such-machine.invalid", exitFailed, "resolve hostname", "has to work by itself")

	os.Rename(filepath.Join(m.dir, "labctl"), filepath.Join(m.dir, "other"))
	try("no labctl", "ssh://pi", exitFailed, "no labctl in the PATH", "install labctl on pi")
	m.install(t, `echo '{"op":"hello","protocol":99,"release":"v9.9.9"}'; cat >/dev/null`)
	try("another version", "ssh://pi", exitFailed, "v9.9.9", "protocol 1", "speaks 99", "install the same labctl")
	m.install(t, "exec $LABCTL hid severe")
	try("an old version", "ssh://pi", exitFailed, "does not know hid serve", "install the same labctl")
	m.install(t, "echo hello from the shell; exit 3")
	try("a login that talks", "ssh://pi", exitFailed, "hello from the shell", "to print nothing before")
	m.install(t, "exec $LABCTL hid serve --stdio --root /nowhere")
	try("no gadget", "ssh://pi", exitFailed, "on pi: opening", "hint: on pi: ", "labctl hid doctor")

	t.Setenv("PATH", t.TempDir())
	try("no ssh", "ssh://pi", exitFailed, "no program ssh", "openssh-client")
}

// A whole rescue through a real ssh, into a host of labsim.
func TestRecipeOverSSH(t *testing.T) {
	m := newFarMachine(t)
	p, err := labproc.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	console := regexp.MustCompile(`sim://[0-9.:]+/nuc01`).FindString(string(text))
	m.install(t, "exec $LABCTL hid serve --stdio --keyboard "+console)
	// The switch that the console restores is untagged, and this wire takes it.
	if _, err := p.Ask("POST", "/fault", `{"fault": "wire-vlan", "host": "nuc01", "vlan": 999}`); err != nil {
		t.Fatal(err)
	}
	e := testEnv(t, "LABCTL_CONFIG="+p.Config)
	code, out, stderr := invoke(t, e, "recipe", "run", "restore-standard-switch", "--host", "nuc01", "--keyboard", "ssh://pi", "--yes", "-o", "json")
	if code != 0 || !strings.Contains(out, `"keyboard":"ssh://pi","outcome":"done"`) {
		t.Fatalf("exit %d: %s\n%s", code, out, stderr)
	}
	if body, err := p.Ask("GET", "/console/nuc01", ""); err != nil || !strings.Contains(string(body), "standard switch restored") {
		t.Errorf("the console: %s %v", body, err)
	}
}
