package main

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What `vch ls` says of a VCH, and what `vch inspect` says more.
var (
	listFields    = []string{"containers", "dockerHost", "id", "ip", "marker", "name", "power", "versionString"}
	inspectFields = []string{"admin", "images", "networks", "pool", "sessions", "version", "vmPath", "vmx", "volumes"}
	boxFields     = []string{"cmd", "disk", "id", "name", "network", "power", "repo", "serial", "state", "vm", "vmx"}
)

func fieldsOf(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// The VCHs of others, as the first lab had one of 0.4 and as vic-machine 1.5.8
// leaves them: seen, looked into, and taken down on either path, with all that
// was made for them and nothing else.
func TestVCHOfOthers(t *testing.T) {
	t.Parallel()
	for _, other := range []struct {
		scene, name, version string
		container            bool
		stays                []string
	}{
		{scene: "vic-0.4", name: "VCH001", version: "0.4.0-2500", container: true, stays: []string{"vSwitch1", "VCH Bridge"}},
		{scene: "vch", name: "vch1", version: "v1.5.8-0-2c978fe"},
	} {
		t.Run(other.scene, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", other.scene, "--boot", "50ms")
			for via, marker := range map[string]string{"vcenter": "moved", "esxi": "match"} {
				l.reset()
				r := l.run("vch", "ls", "--via", via, "-o", "json")
				var list struct{ VCHs []map[string]any }
				decode(t, r, &list)
				if len(list.VCHs) != 1 {
					t.Fatalf("%s: %s", via, r.stdout)
				}
				e := list.VCHs[0]
				boxes := 0.0
				if other.container {
					boxes = 1
				}
				if d := cmp.Diff(listFields, fieldsOf(e)); d != "" {
					t.Errorf("%s: fields of ls:\n%s", via, d)
				}
				if e["name"] != other.name || e["marker"] != marker || e["versionString"] != other.version || e["power"] != "on" || e["containers"] != boxes || e["dockerHost"] == "" {
					t.Errorf("%s: %v", via, e)
				}

				var in map[string]any
				decode(t, l.run("vch", "inspect", other.name, "--via", via, "-o", "json"), &in)
				if d := cmp.Diff(slices.Sorted(slices.Values(slices.Concat(listFields, inspectFields))), fieldsOf(in)); d != "" {
					t.Errorf("%s: fields of inspect:\n%s", via, d)
				}
				for k := range e {
					if k != "containers" && in[k] != e[k] {
						t.Errorf("%s: %s is %v in ls and %v in inspect", via, k, e[k], in[k])
					}
				}
				for _, s := range in["sessions"].([]any) {
					if s := s.(map[string]any); s["state"] != "running" || !strings.Contains(s["args"].([]any)[0].(string), "/") {
						t.Errorf("%s: session %v", via, s)
					}
				}
				list2 := in["containers"].([]any)
				if float64(len(list2)) != boxes {
					t.Fatalf("%s: containers %v", via, list2)
				}
				if other.container {
					c := list2[0].(map[string]any)
					if d := cmp.Diff(boxFields, fieldsOf(c)); d != "" {
						t.Errorf("%s: fields of a container:\n%s", via, d)
					}
					delete(c, "vmx")
					id := "2cf7f483bf6e7f32daa53f51ca388d5fb153f78d3a74d313318099086638ad58"
					want := map[string]any{"id": id, "name": "jolly_panini", "repo": "hello-world", "cmd": "/hello", "power": "off", "vm": id,
						"serial": "tcp://192.168.1.44:8080", "network": "VCH Bridge", "disk": "[datastore1] " + id + "/" + id + ".vmdk", "state": "exited"}
					if d := cmp.Diff(want, c); d != "" {
						t.Errorf("%s: container:\n%s", via, d)
					}
				}
				keys := in["vmx"].(map[string]any)
				masked := 0
				for k, v := range keys {
					if strings.Contains(k, "@secret") {
						masked++
						if v != "••••" {
							t.Errorf("%s: %s is shown", via, k)
						}
					}
				}
				if other.scene == "vch" && masked == 0 {
					t.Errorf("%s: no secret among %d keys", via, len(keys))
				}
				text := l.run("vch", "inspect", other.name, "--via", via, "--vmx")
				text.want(t, exitDone, "boot image", "image store", "port-layer", "init/common/id")
				if shown := strings.Contains(text.stdout, "names another machine"); shown != (marker == "moved") {
					t.Errorf("%s: the marker is %s, and explained: %v", via, marker, shown)
				}

				if via == "esxi" {
					// vCenter manages this host; to take something away is no less
					// right for that.
					l.run("vch", "down", other.name, "--via", via).want(t, exitDone, other.name+": powered off", other.name+": removed")
				} else {
					l.run("vch", "down", other.name).want(t, exitDone, other.name+": powered off", other.name+": removed")
				}
				l.run("vch", "down", other.name, "--via", via).want(t, exitDone, "there is no such VCH")
				left, _ := l.vchThings()
				for _, s := range other.stays {
					if !strings.Contains(left, s) {
						t.Errorf("%s: %s is gone, and was not made for the VCH", via, s)
					}
				}
				for _, s := range []string{other.name, "appliance.iso", "2cf7f483"} {
					if strings.Contains(left, s) {
						t.Errorf("%s: %s is left:\n%s", via, s, left)
					}
				}
			}
		})
	}
}

// Each mode of the Docker API: its port, the files that are kept, who may read
// them, and a container that runs.
func TestVCHCertificates(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--scene", "standalone", "--boot", "50ms")
	dir := filepath.Join(filepath.Dir(l.config), ".local", "share", "labctl", "vch", "t1")
	for _, mode := range []struct {
		flags []string
		port  string
		files []string
	}{
		{[]string{"--tls", "none"}, ":2375", []string{"t1.env"}},
		{nil, ":2376", []string{"ca.pem", "server-cert.pem", "t1.env"}},
		{[]string{"--tls", "verify", "--ip", "127.44.44.90/24", "--gateway", "127.44.44.1", "--dns-server", "127.44.44.1"}, ":2376",
			[]string{"ca-key.pem", "ca.pem", "cert.pem", "key.pem", "server-cert.pem", "t1.env"}},
	} {
		r := l.run(append([]string{"vch", "up", "t1"}, mode.flags...)...)
		r.want(t, exitDone, mode.port)
		var files []string
		filepath.WalkDir(filepath.Join(filepath.Dir(l.config), ".local", "share", "labctl"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				t.Fatal(err)
			}
			info, err := d.Info()
			if err != nil {
				t.Fatal(err)
			}
			if d.IsDir() {
				if info.Mode().Perm() != 0o700 {
					t.Errorf("%s is %v", path, info.Mode())
				}
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), "PRIVATE KEY") && info.Mode().Perm() != 0o600 {
				t.Errorf("%s is %v", path, info.Mode())
			}
			files = append(files, d.Name())
			return nil
		})
		if d := cmp.Diff(mode.files, files); d != "" {
			t.Errorf("%v: files:\n%s", mode.flags, d)
		}
		if strings.Contains(r.stdout+r.stderr, "PRIVATE KEY") {
			t.Errorf("%v: a key is printed", mode.flags)
		}
		l.run("vch", "test", "t1").want(t, exitDone, "Hello from Docker!")
		if len(mode.flags) > 2 {
			var in struct {
				Networks []struct {
					Role, IP, Gateway, DNS string
					Static                 bool
				}
			}
			if err := json.Unmarshal([]byte(l.run("vch", "inspect", "t1", "-o", "json").stdout), &in); err != nil {
				t.Fatal(err)
			}
			for _, n := range in.Networks {
				if n.Role != "bridge" && (n.IP != "127.44.44.90/24" || n.Gateway != "127.44.44.1" || n.DNS != "127.44.44.1" || !n.Static) {
					t.Errorf("%+v", n)
				}
			}
		}
		l.run("vch", "down", "t1").want(t, exitDone)
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%v: %s is left", mode.flags, dir)
		}
	}
}
