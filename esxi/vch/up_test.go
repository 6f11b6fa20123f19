package vch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/labctl/labctl/esxi"
)

// paths are the two ways to a lab, with a scene that allows them.
var paths = []struct{ via, scene string }{{"vcenter", "nuc"}, {"esxi", "standalone"}}

// session is one connection of its own, as a command has it.
func (l *lab) session(via string, do func(c *esxi.Client) error) (int, error) {
	c, err := esxi.Dial(l.t.Context(), l.endpoints[via])
	if err != nil {
		return 0, err
	}
	err = do(c)
	c.Logout(context.WithoutCancel(l.t.Context()))
	return c.Requests(), err
}

// up makes one VCH, and returns how many requests that took.
func (l *lab) up(via string, j Job, o Options) (in *Instance, requests int, err error) {
	requests, err = l.session(via, func(c *esxi.Client) error {
		out, err := Up(l.t.Context(), c, []Job{j}, o)
		if err == nil {
			in, err = out[0].Instance, out[0].Err
		}
		return err
	})
	j.Journal.Done()
	return in, requests, err
}

func (l *lab) down(via string, t Target, o DownOptions) (r Removal, requests int, err error) {
	requests, err = l.session(via, func(c *esxi.Client) error {
		out, err := Down(l.t.Context(), c, []Target{t}, o)
		if err == nil {
			r = out[0]
		}
		return err
	})
	t.Journal.Done()
	return r, requests, err
}

// Budgets of requests, login and logout included.
const (
	budgetUp   = 32
	budgetDown = 24
	budgetList = 8
)

func TestUpAndDown(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			before := l.state().things()
			j := l.job(path.via, "t1")
			j.Spec.Expires = time.Now().Add(time.Hour)
			in, n, err := l.up(path.via, j, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("up: %d requests", n)
			if n > budgetUp {
				t.Errorf("up took %d requests, want at most %d", n, budgetUp)
			}
			for _, f := range []struct {
				name string
				mode os.FileMode
			}{{"server-cert.pem", 0o644}, {"t1.env", 0o644}, {"", 0o700}} {
				if info, err := os.Stat(filepath.Join(j.CertDir, f.name)); err != nil || info.Mode().Perm() != f.mode {
					t.Errorf("%s: %v %v", f.name, info, err)
				}
			}
			if env, _ := os.ReadFile(EnvFile(j.CertDir)); !strings.Contains(string(env), "DOCKER_HOST="+in.DockerHost+"\n") {
				t.Errorf("env file: %s", env)
			}
			var list []Entry
			n, err = l.session(path.via, func(c *esxi.Client) (err error) { list, err = List(t.Context(), c); return err })
			if err != nil || len(list) != 1 || list[0].Marker != "match" || list[0].DockerHost != in.DockerHost || list[0].Expires.IsZero() {
				t.Errorf("list: %+v %v", list, err)
			}
			t.Logf("ls: %d requests", n)
			if n > budgetList {
				t.Errorf("ls took %d requests, want at most %d", n, budgetList)
			}
			// Twice: the second finds nothing and says so.
			for _, found := range []bool{true, false} {
				r, n, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{})
				if err != nil || r.Found != found || len(r.Left) > 0 {
					t.Errorf("down: %+v %v", r, err)
				}
				t.Logf("down: %d requests", n)
				if n > budgetDown {
					t.Errorf("down took %d requests, want at most %d", n, budgetDown)
				}
			}
			if d := cmp.Diff(before, l.state().things()); d != "" {
				t.Errorf("the lab is not as it was:\n%s", d)
			}
			if exists(j.CertDir) || exists(j.Journal.Path) {
				t.Error("certificates or journal are left")
			}
		})
	}
}

// A failure at each call in turn, in three kinds: refused, lost before it was
// carried out, and lost after. What up says is left is the truth, and a second
// down removes it.
func TestUpFailsAtEachCall(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			// The shorter way also has what a VCH can have beside its own folder.
			job := func() Job {
				j := l.job(path.via, "t1")
				if path.via == "esxi" {
					j.Spec.ImagePath, j.Spec.Volumes = "lab/pictures", []Volume{{Label: "default", Datastore: "datastore1"}}
				}
				return j
			}
			before := l.state().things()
			if _, _, err := l.up(path.via, job(), Options{}); err != nil {
				t.Fatal(err)
			}
			calls := l.state().Requests.Calls
			for k := 3; k < len(calls); k++ { // the first two are the login's
				for _, fault := range []string{
					`{"fault": "fail-call", "call": %d}`,
					`{"fault": "drop", "call": %d, "when": "before"}`,
					`{"fault": "drop", "call": %d, "when": "after"}`,
				} {
					fault = fmt.Sprintf(fault, k)
					l.reset()
					l.arm(fault)
					l.dir = t.TempDir()
					j := job()
					_, _, err := l.up(path.via, j, Options{Ready: 20 * time.Second})
					l.disarm()
					what := fmt.Sprintf("%s at %s: %v", fault, calls[k-1], err)
					var up *UpError
					switch {
					case err == nil: // a read that was done again
						if r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{Volumes: true}); err != nil || len(r.Left) > 0 {
							t.Errorf("%s: down: %+v %v", what, r, err)
						}
					case errors.As(err, &up) && len(up.Left) > 0:
						t.Logf("%s: left %v", what, up.Left)
						if r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{Volumes: true}); err != nil || len(r.Left) > 0 {
							t.Errorf("%s: down: %+v %v", what, r, err)
						}
					case exists(j.CertDir):
						t.Errorf("%s: certificates are left", what)
					}
					if d := cmp.Diff(before, l.state().things()); d != "" {
						t.Fatalf("%s: the lab is not as it was:\n%s", what, d)
					}
				}
			}
		})
	}
}

func TestDownFailsAtEachCall(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			before := l.state().things()
			first, calls := 0, []string(nil)
			for k := 0; k == 0 || first+2+k < len(calls); k++ {
				for _, fault := range []string{
					`{"fault": "fail-call", "call": %d}`,
					`{"fault": "drop", "call": %d, "when": "before"}`,
					`{"fault": "drop", "call": %d, "when": "after"}`,
				} {
					l.reset()
					l.dir = t.TempDir()
					if _, _, err := l.up(path.via, l.job(path.via, "t1"), Options{}); err != nil {
						t.Fatal(err)
					}
					first = len(l.state().Requests.Calls)
					fault = fmt.Sprintf(fault, first+2+k)
					if k > 0 {
						l.arm(fault)
					}
					r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{})
					l.disarm()
					if k == 0 {
						calls = l.state().Requests.Calls
					}
					what := fmt.Sprintf("%s at %s: %+v %v", fault, calls[min(len(calls), first+2+k)-1], r, err)
					clean := l.state().things() == before
					if err == nil && len(r.Left) == 0 && !clean {
						t.Errorf("%s: it says that nothing is left:\n%s", what, cmp.Diff(before, l.state().things()))
					}
					if again, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{}); err != nil || len(again.Left) > 0 {
						t.Errorf("%s: again: %+v %v", what, again, err)
					}
					if d := cmp.Diff(before, l.state().things()); d != "" {
						t.Fatalf("%s: the lab is not as it was:\n%s", what, d)
					}
				}
			}
		})
	}
}
