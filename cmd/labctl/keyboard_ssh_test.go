package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labctl/labctl/hid"
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
	far  *exec.Cmd
}

// newFarMachine starts sshd, and puts an ssh into this process's PATH whose config
// knows the machine as pi.
func newFarMachine(t *testing.T) *farMachine {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	for _, p := range []string{sshd, "/usr/bin/ssh", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("NOT TESTED: keyboards over ssh need OpenSSH's server and client: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: keyboards over ssh: sshd wants to be root for a login")
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
