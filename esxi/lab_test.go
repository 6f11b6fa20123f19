package esxi

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi/sim/labproc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	labproc.Clean()
	os.Exit(code)
}

// startLab starts labsim as a process of its own and returns its endpoints by
// name: vcenter, nuc01, ….
func startLab(t *testing.T, scene string) map[string]*Endpoint {
	t.Helper()
	p, err := labproc.Start(t.TempDir(), "--scene", scene)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	lab := map[string]*Endpoint{}
	for _, e := range p.Endpoints {
		u, _, err := ParseURL(e.URL)
		if err != nil {
			t.Fatal(err)
		}
		lab[e.Name] = &Endpoint{URL: u, User: e.User, Thumbprint: e.Thumbprint, Password: func(context.Context) (Secret, error) {
			password, err := p.Password(e.Name)
			return NewSecret(password), err
		}}
	}
	return lab
}

// Sessions with a whole simulated lab: a vCenter of three hosts, and the hosts.
func TestSessions(t *testing.T) {
	lab := startLab(t, "rack")

	t.Run("wrong password", func(t *testing.T) {
		for name, e := range lab {
			wrong := *e
			wrong.Password = func(context.Context) (Secret, error) { return NewSecret("hunter2"), nil }
			_, err := Dial(t.Context(), &wrong)
			var login *LoginError
			if !errors.As(err, &login) || login.User != e.User || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: got %v, want a LoginError", name, err)
			}
		}
	})

	t.Run("two calls, then logout", func(t *testing.T) {
		for name, e := range lab {
			c, err := Dial(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			if n := c.Requests(); n != 2 || c.IsVCenter() != (name == "vcenter") {
				t.Errorf("%s: %d requests, vCenter %t", name, n, c.IsVCenter())
			}
			late := c.Fresh()
			defer late.Close()
			if err := c.Logout(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			_, err = late.FindHost(t.Context(), Wanted{Name: "nuc01"})
			var call *CallError
			if !errors.As(err, &call) || !call.Refused || call.Fault != "NotAuthenticated" {
				t.Errorf("%s: the session lives on after the logout: %v", name, err)
			}
		}
	})

	t.Run("a call has its time", func(t *testing.T) {
		slow := *lab["nuc01"]
		slow.CallTimeout = time.Nanosecond
		if _, err := Dial(t.Context(), &slow); err == nil || !strings.Contains(err.Error(), "time-out") {
			t.Errorf("a call that may take a nanosecond: %v", err)
		}
	})

	t.Run("find", func(t *testing.T) {
		for _, tc := range []struct {
			at   string
			want Wanted
			host string // or !part of the error
		}{
			{"vcenter", Wanted{"nuc02", "nuc02.lab.local"}, "nuc02"},
			{"vcenter", Wanted{"the third", "192.168.20.13"}, "nuc03"},
			{"vcenter", Wanted{"nuc09", "nuc09"}, "!no host matches nuc09: the inventory holds nuc01, nuc02, nuc03"},
			{"vcenter", Wanted{}, "!more than one host is there, name one: nuc01, nuc02, nuc03"},
			{"nuc01", Wanted{"anything", "127.0.0.1"}, ""},
		} {
			c, err := Dial(t.Context(), lab[tc.at])
			if err != nil {
				t.Fatal(err)
			}
			before := c.Requests()
			h, err := c.FindHost(t.Context(), tc.want)
			if n := c.Requests() - before; n != 1 {
				t.Errorf("%s %v: %d requests", tc.at, tc.want, n)
			}
			if part, ok := strings.CutPrefix(tc.host, "!"); ok {
				if !errors.As(err, new(*FindError)) || err.Error() != part {
					t.Errorf("%s %v: got %v, want %s", tc.at, tc.want, err, part)
				}
			} else if err != nil || tc.host != "" && h.InventoryPath != tc.host {
				t.Errorf("%s %v: %v %v", tc.at, tc.want, h, err)
			}
			if err := c.Logout(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("fresh", func(t *testing.T) {
		c, err := Dial(t.Context(), lab["vcenter"])
		if err != nil {
			t.Fatal(err)
		}
		session := func(c *Client) string {
			var m mo.SessionManager
			objects, err := Retrieve(t.Context(), c.Vim, types.PropertyFilterSpec{
				PropSet:   []types.PropertySpec{{Type: "SessionManager", PathSet: []string{"currentSession"}}},
				ObjectSet: []types.ObjectSpec{{Obj: *c.Vim.ServiceContent.SessionManager}},
			})
			if err != nil || len(objects) != 1 {
				t.Fatalf("%v %v", objects, err)
			}
			if err := mo.LoadObjectContent(objects, &m); err != nil || m.CurrentSession == nil {
				t.Fatalf("no session: %v", err)
			}
			return m.CurrentSession.Key
		}
		before := session(c)
		c.Close()
		f := c.Fresh()
		if after := session(f); after != before {
			t.Errorf("session %s became %s", before, after)
		}
		if c.Requests() != 4 || f.Requests() != 4 {
			t.Errorf("%d and %d requests counted, want 4", c.Requests(), f.Requests())
		}
		if err := f.Logout(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("interrupted", func(t *testing.T) {
		c, err := Dial(t.Context(), lab["nuc01"])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = methods.GetCurrentTime(ctx, c.Vim)
		var call *CallError
		if !errors.Is(err, context.Canceled) || errors.As(err, &call) && call.Refused {
			t.Errorf("got %v", err)
		}
	})
}
