package vch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/labctl/labctl/esxi"
)

// labsim is built once, without the race detector: it is the tests that are
// watched, not the lab.
var labsim = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "labsim-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "lab")
	cmd := exec.Command("go", "build", "-o", program, "../../cmd/labsim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return program, fmt.Errorf("build labsim: %w\n%s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if program, _ := labsim(); program != "" {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// lab is a labsim process.
type lab struct {
	t         *testing.T
	control   string
	endpoints map[string]*esxi.Endpoint // by vcenter, esxi
	dir       string                    // for journals and certificates
	bundle    *Bundle
}

func startLab(t *testing.T, scene string, args ...string) *lab {
	t.Helper()
	program, err := labsim()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := &lab{t: t, dir: dir, endpoints: map[string]*esxi.Endpoint{}, bundle: fakeBundle(t, "v1.5.8-0-2c978fe", 1<<20)}
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	config := filepath.Join(dir, "labctl.yaml")
	cmd := exec.Command(program, append([]string{"--scene", scene, "--write-config", config, "--boot", "50ms"}, args...)...)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			said, _ := os.ReadFile(stderr.Name())
			t.Errorf("labsim ended with %v:\n%.6000s", err, said)
		}
	})
	ready := make([]byte, len("ready\n"))
	_, err = io.ReadFull(stdout, ready)
	said, _ := os.ReadFile(stderr.Name())
	if err != nil || string(ready) != "ready\n" {
		t.Fatalf("labsim is not ready: %q %v\n%s", ready, err, said)
	}
	for line := range strings.Lines(string(said)) {
		var name, where, user, pin string
		if n, _ := fmt.Sscanf(line, "%s %s user %s thumbprint %s", &name, &where, &user, &pin); n == 4 {
			u, _, err := esxi.ParseURL(where)
			if err != nil {
				t.Fatal(err)
			}
			via := "esxi"
			if name == "vcenter" {
				via = name
			}
			l.endpoints[via] = &esxi.Endpoint{URL: u, User: user, Thumbprint: pin, Password: func(context.Context) (esxi.Secret, error) {
				b, err := os.ReadFile(config + "." + name + ".password")
				return esxi.NewSecret(strings.TrimSpace(string(b))), err
			}}
		} else if n, _ := fmt.Sscanf(line, "control %s", &where); n == 1 {
			l.control = where
		}
	}
	if len(l.endpoints) == 0 || l.control == "" {
		t.Fatalf("labsim names no addresses:\n%s", said)
	}
	return l
}

func (l *lab) call(method, path, body string) []byte {
	l.t.Helper()
	req, err := http.NewRequest(method, l.control+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		l.t.Fatalf("%s %s %s: %s %v\n%s", method, path, body, res.Status, err, b)
	}
	return b
}

func (l *lab) dial(via string) *esxi.Client {
	l.t.Helper()
	c, err := esxi.Dial(l.t.Context(), l.endpoints[via])
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Logout(context.WithoutCancel(l.t.Context())) })
	return c
}

// spec is a VCH as plain as the path allows.
func (l *lab) spec(via, name string) *Spec {
	l.t.Helper()
	e := l.endpoints[via]
	pw, err := e.Password(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	s := &Spec{Name: name, Bundle: l.bundle, Target: "https://vsphere.lab.local", User: e.User, Password: pw, Networks: map[Role]RoleNet{}, OwnUser: true, KeyBits: 1024}
	if via == "vcenter" {
		s.Networks[Bridge] = RoleNet{Network: "VCH-Bridge"}
	}
	return s
}

func (l *lab) job(via, name string) Job {
	l.t.Helper()
	j, err := OpenJournal(filepath.Join(l.dir, "journal"), l.endpoints[via].URL.Host, name)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(j.Done)
	return Job{Spec: l.spec(via, name), CertDir: filepath.Join(l.dir, "vch", name), Journal: j}
}

func (l *lab) target(via, name string) Target {
	l.t.Helper()
	j, err := OpenJournal(filepath.Join(l.dir, "journal"), l.endpoints[via].URL.Host, name)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(j.Done)
	return Target{Name: name, CertDir: filepath.Join(l.dir, "vch", name), Journal: j}
}

// fakeBundle makes two images with nothing in them but a version.
func fakeBundle(t testing.TB, version string, size int) *Bundle {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"appliance.iso", "bootstrap.iso"} {
		b := make([]byte, size+i)
		copy(b[descriptorAt:], "\x01CD001")
		copy(b[descriptorAt+publisherAt:], fmt.Sprintf("%-128s", "VMware Inc. "+version))
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// labState is what the tests look at in GET /state.
type labState struct {
	Hosts []struct {
		Name                 string
		Switches, Portgroups json.RawMessage
		VMs                  []struct{ Name, Power string }
	}
	VCHs, Pools, Folders, Files json.RawMessage
	Requests                    struct {
		Calls []string
		Bytes map[string]int64
	}
	Faults []struct{ Fired int }
}

func (l *lab) state() labState {
	l.t.Helper()
	var s labState
	if err := json.Unmarshal(l.call("GET", "/state", ""), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// sent returns how many bytes of files the lab has received.
func (l *lab) sent() (n int64) {
	l.t.Helper()
	for _, b := range l.state().Requests.Bytes {
		n += b
	}
	return n
}

// things is everything in the lab that an installation could touch, one text.
func (s labState) things() string {
	var out strings.Builder
	for _, h := range s.Hosts {
		fmt.Fprintf(&out, "%s\n%s\n%s\n%v\n", h.Name, h.Switches, h.Portgroups, h.VMs)
	}
	fmt.Fprintf(&out, "vchs %s\npools %s\nfolders %s\nfiles %s\n", s.VCHs, s.Pools, s.Folders, s.Files)
	return out.String()
}

func (l *lab) reset() { l.t.Helper(); l.call("POST", "/reset", "") }

func (l *lab) arm(fault string) { l.t.Helper(); l.call("POST", "/fault", fault) }

func (l *lab) disarm() { l.t.Helper(); l.call("DELETE", "/fault", "") }
