package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/labctl/labctl/esxi/vch"
	"github.com/labctl/labctl/internal/skipped"
)

// vchPaths are the two ways to make VCHs, each with a scene that allows it.
var vchPaths = []struct{ name, scene string }{{"vcenter", "nuc"}, {"esxi", "standalone"}}

// vchModes are the flags of up for the two kinds of kill: keys take longer to
// make than all the rest of an up, and half of the kills are without.
var vchModes = map[string][]string{"before": {"vch", "up", "t1", "--tls", "none"}, "after": {"vch", "up", "t1"}}

// vchThings is everything in the lab that a vch command could touch, and the
// calls so far.
func (l *lab) vchThings() (things string, calls []string) {
	l.t.Helper()
	var s struct {
		Hosts []struct {
			Name                 string
			Switches, Portgroups json.RawMessage
			VMs                  []struct{ Name, Power string }
		}
		VCHs, Pools, Folders, Files json.RawMessage
		Requests                    struct{ Calls []string }
	}
	if err := json.Unmarshal(l.call("GET", "/state", ""), &s); err != nil {
		l.t.Fatal(err)
	}
	var out strings.Builder
	for _, h := range s.Hosts {
		fmt.Fprintf(&out, "%s\n%s\n%s\n%v\n", h.Name, h.Switches, h.Portgroups, h.VMs)
	}
	fmt.Fprintf(&out, "vchs %s\npools %s\nfolders %s\nfiles %s\n", s.VCHs, s.Pools, s.Folders, s.Files)
	return out.String(), s.Requests.Calls
}

// vchFiles lists what labctl keeps of VCHs on this machine.
func (l *lab) vchFiles() (out []string) {
	for _, dir := range []string{filepath.Join(l.state, "labctl", "vch"), filepath.Join(filepath.Dir(l.config), ".local", "share", "labctl", "vch")} {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				out = append(out, path)
			}
			return nil
		})
	}
	return out
}

// The whole story, as a person has it, in text and in JSON.
func TestVCHStory(t *testing.T) {
	t.Parallel()
	for _, path := range vchPaths {
		l := startLab(t, "--scene", path.scene, "--boot", "50ms")
		before, _ := l.vchThings()
		r := l.run("vch", "up", "t1", "--ttl", "1h")
		r.want(t, exitDone, "DOCKER_HOST=tcp://", "DOCKER_API_VERSION=1.25 docker -H tcp://", "https://", ":2378", "upload [", "port-layer: running")
		l.noSecretsKept()
		l.run("vch", "up", "t1").want(t, exitFailed, "there is a VCH called t1 already", "nothing was made")

		var list struct {
			Version int
			VCHs    []vch.Entry
		}
		decode(t, l.run("vch", "ls", "-o", "json"), &list)
		if list.Version != 1 || len(list.VCHs) != 1 || list.VCHs[0].Marker != "match" || !strings.Contains(r.stdout, "DOCKER_HOST="+list.VCHs[0].DockerHost+"\n") {
			t.Errorf("%s: ls: %+v", path.name, list)
		}
		l.run("vch", "ls").want(t, exitDone, "t1", "match")
		l.run("vch", "test", "t1").want(t, exitDone, "Hello from Docker!", "in virtual machine")
		l.run("vch", "inspect", "t1", "--vmx").want(t, exitDone, "guestinfo.vice./connect/token@secret = \"••••\"", "port-layer", "running", "no containers")
		var in struct {
			Networks, Sessions, Containers []any
			Images, VMX                    map[string]any
		}
		decode(t, l.run("vch", "inspect", "t1", "-o", "json"), &in)
		if len(in.Networks) != 4 || len(in.Sessions) != 3 || in.Containers == nil || len(in.VMX) < 180 {
			t.Errorf("%s: inspect: %d networks, %d sessions, %d keys", path.name, len(in.Networks), len(in.Sessions), len(in.VMX))
		}
		l.run("vch", "logs", "t1").want(t, exitDone)
		l.run("vch", "down", "--expired").want(t, exitDone, "no VCH is to be removed")
		l.run("vch", "down", "t1").want(t, exitDone, "t1: removed")
		l.run("vch", "down", "t1").want(t, exitDone, "there is no such VCH")
		if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
			t.Errorf("%s: the lab is not as it was:\n%s", path.name, d)
		}
		if left := l.vchFiles(); len(left) > 0 {
			t.Errorf("%s: left on this machine: %v", path.name, left)
		}

		l.run("vch", "up", "ci", "--count", "3", "--ttl", "1ns").want(t, exitDone, "ci-3 is up")
		l.run("vch", "up", "keeper").want(t, exitDone)
		l.run("vch", "down", "--expired").want(t, exitDone, "ci-1: removed", "ci-2: removed", "ci-3: removed")
		l.run("vch", "down", "--all").want(t, exitUsage, "give --yes")
		l.run("vch", "down", "--all", "--prefix", "k", "-o", "json").want(t, exitDone, `"name":"keeper"`)
		if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
			t.Errorf("%s: the lab is not as it was:\n%s", path.name, d)
		}
	}
}

func first2(s string, _ []string) string { return s }

// decode reads the result object, the last line or the whole of stdout.
func decode(t *testing.T, r answer, v any) {
	t.Helper()
	if r.code != exitDone {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("%v:\n%s", err, r.stdout)
	}
}

// kill -9 at each call of up, before and after it is carried out: down removes
// what is there, and nothing else.
func TestVCHUpKilled(t *testing.T) {
	t.Parallel()
	for _, path := range vchPaths {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", path.scene, "--boot", "50ms")
			before, _ := l.vchThings()
			l.run("vch", "up", "t1").want(t, exitDone)
			_, calls := l.vchThings()
			for k := 1; k <= len(calls); k++ {
				for _, when := range []string{"before", "after"} {
					l.reset()
					err := l.killed(vchModes[when], fmt.Sprintf(`{"fault":"hold","call":%d,"when":"%s"}`, k, when))
					if err != nil && !errors.Is(err, errEnded) {
						t.Fatal(err)
					}
					l.heal()
					what := fmt.Sprintf("killed %s call %d, %s", when, k, calls[k-1])
					l.noSecretsKept()
					if r := l.run("vch", "down", "t1"); r.code != exitDone {
						t.Errorf("%s: down exits %d: %s", what, r.code, r.stderr)
					}
					if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
						t.Fatalf("%s: the lab is not as it was:\n%s", what, d)
					}
				}
			}
		})
	}
}

func TestVCHDownKilled(t *testing.T) {
	t.Parallel()
	for _, path := range vchPaths {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", path.scene, "--boot", "50ms")
			before, _ := l.vchThings()
			l.run("vch", "up", "t1").want(t, exitDone)
			_, up := l.vchThings()
			l.run("vch", "down", "t1").want(t, exitDone)
			_, both := l.vchThings()
			calls := both[len(up):]
			for k := 1; k <= len(calls); k++ {
				for _, when := range []string{"before", "after"} {
					l.reset()
					l.run(vchModes[when]...).want(t, exitDone)
					_, sofar := l.vchThings()
					err := l.killed([]string{"vch", "down", "t1"}, fmt.Sprintf(`{"fault":"hold","call":%d,"when":"%s"}`, len(sofar)+k, when))
					if err != nil && !errors.Is(err, errEnded) {
						t.Fatal(err)
					}
					l.heal()
					what := fmt.Sprintf("killed %s call %d, %s", when, k, calls[k-1])
					if r := l.run("vch", "down", "t1"); r.code != exitDone {
						t.Errorf("%s: down exits %d: %s", what, r.code, r.stderr)
					}
					if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
						t.Fatalf("%s: the lab is not as it was:\n%s", what, d)
					}
				}
			}
		})
	}
}

// The same on a machine that did not make the VCH: what outlives the appliance
// is known from down's own journal alone, once the appliance is gone.
func TestVCHDownKilledElsewhere(t *testing.T) {
	t.Parallel()
	for _, path := range vchPaths {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", path.scene, "--boot", "50ms")
			before, _ := l.vchThings()
			held := 0
			for _, at := range []string{
				`"call":1,"method":"Destroy_Task","when":"before"`, `"call":1,"method":"Destroy_Task","when":"after"`,
				`"call":1,"method":"DeleteDatastoreFile_Task","when":"before"`, `"call":1,"method":"DeleteDatastoreFile_Task","when":"after"`,
				`"call":2,"method":"Destroy_Task","when":"before"`, `"call":2,"method":"Destroy_Task","when":"after"`,
			} {
				l.reset()
				l.run("vch", "up", "t1").want(t, exitDone)
				if err := os.RemoveAll(l.state); err != nil {
					t.Fatal(err)
				}
				err := l.killed([]string{"vch", "down", "t1"}, `{"fault":"hold",`+at+`}`)
				if err != nil && !errors.Is(err, errEnded) {
					t.Fatal(err)
				}
				if err == nil {
					held++
				}
				l.heal()
				l.run("vch", "down", "t1").want(t, exitDone)
				if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
					t.Errorf("killed at %s: the lab is not as it was:\n%s", at, d)
				}
			}
			if held < 6 {
				t.Errorf("%d kills struck, want 6", held)
			}
		})
	}
}

// The first ctrl-c takes back what was made.
func TestVCHInterrupt(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--scene", "standalone", "--boot", "50ms")
	before, _ := l.vchThings()
	for _, method := range []string{"CreateVM_Task", "ReconfigVM_Task"} {
		l.reset()
		l.arm(fmt.Sprintf(`{"fault":"hold","call":1,"method":%q,"when":"after"}`, method))
		cmd := l.command("vch", "up", "t1")
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		l.eventually("the held call", func() bool { return l.look().Held > 0 })
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		l.call("POST", "/release", "")
		_ = cmd.Wait()
		l.heal()
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("%s: exit %d\n%s", method, code, said.String())
		}
		if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
			t.Errorf("%s: the lab is not as it was:\n%s", method, d)
		}
	}
}

// Exit codes tell the truth.
func TestVCHExitCodes(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--scene", "standalone", "--boot", "50ms")
	before, _ := l.vchThings()
	l.arm(`{"fault":"component-fails","component":"vicadmin"}`)
	r := l.run("vch", "up", "t1")
	r.want(t, exitUnchanged, "vicadmin did not start", "nothing of it is left", "labctl vch logs t1")
	l.run("vch", "logs", "t1").want(t, exitDone, "this was saved")
	r = l.run("vch", "up", "t1", "--keep", "-o", "json")
	r.want(t, exitChanged, `"outcome":"kept"`, "kept until vch down: resource pool t1", "labctl vch logs t1")
	l.heal()
	l.run("vch", "down", "t1").want(t, exitDone)
	if d := cmp.Diff(before, first2(l.vchThings())); d != "" {
		t.Errorf("the lab is not as it was:\n%s", d)
	}
	l.arm(`{"fault":"no-license"}`)
	l.arm(`{"fault":"firewall-closed","host":"nuc01"}`)
	l.run("vch", "up", "t1", "--public-network", "Nope").want(t, exitFailed, "serialuri", "--open-firewall", "there is no network Nope", "3 things speak against it")
	l.heal()
	l.arm(`{"fault":"firewall-closed","host":"nuc01"}`)
	l.run("vch", "up", "t1", "--open-firewall").want(t, exitDone)
	l.heal()
	l.run("vch", "down", "t1").want(t, exitDone)
	l.run("vch", "inspect", "nope").want(t, exitUsage, "there is no VCH nope")
	if !slices.Contains(strings.Split(string(mustList(t, filepath.Join(l.state, "labctl", "locks"))), "\n"), "vch-t1.lock") {
		t.Error("no lock was taken")
	}
}

func mustList(t *testing.T, dir string) []byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, e := range list {
		out = append(out, e.Name()+"\n"...)
	}
	return out
}

// The docker client itself, where one is installed that still speaks 1.25, goes
// by the env file alone.
func TestVCHDockerClient(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		skipped.Test(t, "no docker client is installed, on Debian docker.io")
	}
	t.Parallel()
	l := startLab(t, "--scene", "standalone", "--boot", "50ms")
	for _, flags := range [][]string{{"--tls", "server"}, {"--tls", "none"},
		{"--tls", "verify", "--tls-cname", "t1.lab.invalid", "--ip", "127.44.44.91/24", "--gateway", "127.44.44.1"}} {
		l.run(append([]string{"vch", "up", "t1"}, flags...)...).want(t, exitDone)
		var env string
		for _, f := range l.vchFiles() {
			if strings.HasSuffix(f, ".env") {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				env = string(b)
			}
		}
		cmd := exec.Command(docker, "run", "--rm", "hello-world")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, strings.Fields(env)...)
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(string(out), "client version 1.25 is too old") {
			skipped.Test(t, "this docker client is too new for a VCH: %s", out)
		}
		if err != nil || !strings.Contains(string(out), "Hello from Docker!") {
			t.Errorf("%v: %v\n%s\n%s", flags, err, out, env)
		}
		l.run("vch", "down", "t1").want(t, exitDone)
	}
}
