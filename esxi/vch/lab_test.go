package vch

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/sim/labproc"
)

func TestMain(m *testing.M) {
	retryPause, gatherFor, askAgain = 10*time.Millisecond, 10*time.Millisecond, 50*time.Millisecond
	newKey = sameKeys(newKey)
	code := m.Run()
	labproc.Clean()
	os.Exit(code)
}

// sameKeys makes three keys of each size, as many as a VCH has, and deals them
// out again and again.
func sameKeys(fresh func(bits int) (*rsa.PrivateKey, error)) func(bits int) (*rsa.PrivateKey, error) {
	var mu sync.Mutex
	made := map[int][]*rsa.PrivateKey{}
	next := 0
	return func(bits int) (*rsa.PrivateKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(made[bits]) < 3 {
			key, err := fresh(bits)
			made[bits] = append(made[bits], key)
			return key, err
		}
		next++
		return made[bits][next%3], nil
	}
}

// lab is a labsim process.
type lab struct {
	*labproc.Lab
	t         *testing.T
	endpoints map[string]*esxi.Endpoint // by vcenter, esxi
	dir       string                    // for journals and certificates
	bundle    *Bundle
}

func startLab(t *testing.T, scene string, args ...string) *lab {
	t.Helper()
	dir := t.TempDir()
	p, err := labproc.Start(dir, append([]string{"--scene", scene, "--boot", "20ms"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{Lab: p, t: t, dir: dir, endpoints: map[string]*esxi.Endpoint{}, bundle: fakeBundle(t, "v1.5.8-0-2c978fe", 1<<20)}
	for _, e := range p.Endpoints {
		u, _, err := esxi.ParseURL(e.URL)
		if err != nil {
			t.Fatal(err)
		}
		via := "esxi"
		if e.Name == "vcenter" {
			via = e.Name
		}
		l.endpoints[via] = &esxi.Endpoint{URL: u, User: e.User, Thumbprint: e.Thumbprint, Password: func(context.Context) (esxi.Secret, error) {
			password, err := p.Password(e.Name)
			return esxi.NewSecret(password), err
		}}
	}
	return l
}

func (l *lab) call(method, path, body string) []byte {
	l.t.Helper()
	b, err := l.Ask(method, path, body)
	if err != nil {
		l.t.Fatal(err)
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
