package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi/network"
)

// want fails unless the run ended with the code and said each of the words.
func (r answer) want(t testing.TB, code int, words ...string) answer {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stdout+r.stderr, w) {
			t.Fatalf("nothing about %q\nstdout: %s\nstderr: %s", w, r.stdout, r.stderr)
		}
	}
	return r
}

func journals(l *lab) []string {
	files, _ := filepath.Glob(filepath.Join(l.state, "labctl", "journals", "*"))
	return files
}

func TestNetShow(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	for _, via := range []string{"vcenter", "esxi"} {
		var got netShowResult
		if err := json.Unmarshal([]byte(l.run("net", "show", "nuc01", "--via", via, "-o", "json").want(t, exitDone).stdout), &got); err != nil {
			t.Fatal(err)
		}
		want := netVmk{Device: "vmk0", IP: "192.168.20.11", MAC: "b8:ae:ed:7a:10:01", MTU: 1500, Switch: "DVS0", SwitchKind: network.Distributed, PortGroup: "DVS-Mgmt", VLAN: 20}
		if len(got.Vmkernels) != 1 {
			t.Fatalf("via %s: vmkernels %+v", via, got.Vmkernels)
		}
		have := got.Vmkernels[0]
		have.Services = nil
		if fmt.Sprint(have) != fmt.Sprint(want) || got.Host != "nuc01" || got.Via != via {
			t.Errorf("via %s: %+v, want %+v", via, have, want)
		}
		if len(got.Uplinks) != 1 || got.Uplinks[0] != (netUplink{"vmnic0", 1000, "DVS0", network.Distributed}) {
			t.Errorf("via %s: uplinks %+v", via, got.Uplinks)
		}
		if len(got.VMs) != 3 || len(got.VMs[2].NICs) != 1 || got.VMs[2].NICs[0].PortGroup != "VM Network" || !got.VMs[2].NICs[0].Connected {
			t.Errorf("via %s: machines %+v", via, got.VMs)
		}
	}

	// vCenter has lost the host, but the host answers: its own word is shown.
	l.arm(`{"fault":"host-state","host":"nuc01","state":"disconnected"}`)
	l.run("net", "show", "nuc01").want(t, exitDone, "read on the other path instead, via esxi", "read via esxi", "192.168.20.11")
	l.run("net", "show", "nuc01", "--via", "vcenter").want(t, exitDone, "disconnected")
	l.reset()
	l.arm(`{"fault":"vcenter-down"}`)
	l.run("net", "show", "nuc01").want(t, exitDone, "via esxi")
	l.reset()
	l.arm(`{"fault":"half-dead"}`)
	l.run("net", "show", "nuc01", "--timeout", "300ms").want(t, exitFailed, "did not answer within 300ms")
}

func TestNetPlanFile(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	dir := t.TempDir()
	plan := filepath.Join(dir, "plan.json")
	l.run("net", "plan", "nuc01", "--to", "standard", "--out", plan, "--detailed-exitcode").want(t, exitPending, "saved as", "labctl net apply "+plan)
	sure := append([]string{"net", "apply", plan}, sure...)

	// Bad input is one line that names the file, and where in it.
	l.run("net", "apply", filepath.Join(dir, "none.json")).want(t, exitUsage, "none.json")
	for name, content := range map[string]string{"broken": "{\n  \"version\": x\n}", "other": `{"version": 1}`, "type": "{\n\"version\": \"one\"}", "empty": ""} {
		file := writeTemp(t, name+".json", content)
		got := l.run("net", "apply", file).want(t, exitUsage, filepath.Base(file))
		said, _, _ := strings.Cut(got.stderr, "labctl: hint: ")
		if lines := strings.Count(strings.TrimSpace(said), "\n"); lines > 0 {
			t.Errorf("%s: more than one line: %s", name, got.stderr)
		}
	}
	l.run("net", "apply", writeTemp(t, "broken.json", "{\n  \"version\": x\n}")).want(t, exitUsage, "broken.json:2:")
	l.run("net", "apply", plan, "--to", "standard").want(t, exitUsage, "--to does not go with a plan file")

	// Nothing that counts has changed: a machine more or less does.
	l.run(sure...).want(t, exitDone)
	l.run(sure...).want(t, exitStale, "stale", "labctl net plan nuc01 --to standard")
	if n := len(journals(l)); n != 1 {
		t.Errorf("%d journals, want the one of the migration", n)
	}
	l.run(with("apply", "--to", "standard")...).want(t, exitDone, `"already": true`)
	l.run("net", "plan", "nuc01", "--to", "standard", "--detailed-exitcode").want(t, exitDone, "already")
	l.noSecretsKept()
}

func TestNetAsksOrRefuses(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	before := l.look().signature()
	for _, tc := range []struct {
		args []string
		code int
		word string
	}{
		{[]string{"net", "apply", "nuc01", "--to", "standard"}, exitUsage, "--yes --accept-risk=lose-management"},
		{[]string{"net", "apply", "nuc01", "--to", "standard", "--yes"}, exitUnsafe, "--accept-risk=lose-management"},
		{[]string{"net", "apply", "nuc01", "--to", "standard", "--accept-risk=lose-managment", "--yes"}, exitUsage, "no such risk"},
		{[]string{"net", "apply", "nuc01", "--to", "sideways"}, exitUsage, "neither standard nor distributed"},
		{[]string{"net", "apply", "nuc01"}, exitUsage, "--to standard or --to distributed"},
		{[]string{"net", "apply", "nuc09", "--to", "standard"}, exitUsage, "nuc09"},
		{[]string{"net", "plan", "nuc01", "--to", "standard", "--map", "Lab"}, exitUsage, "OLD=NEW"},
		{[]string{"net", "plan", "nuc01", "--to", "standard", "--via", "pigeon"}, exitUsage, "neither vcenter nor esxi"},
		{[]string{"net", "move", "nuc01"}, exitUsage, "unknown command move"},
		{[]string{"net", "resume", "nuc01"}, exitUnchanged, "no migration of nuc01 is recorded"},
		{[]string{"net", "rollback", "nuc01"}, exitDone, "no migration of nuc01 is recorded"},
		{[]string{"net", "status", "nuc01"}, exitDone, "none recorded"},
	} {
		l.run(tc.args...).want(t, tc.code, tc.word)
	}
	if l.look().signature() != before || len(journals(l)) != 0 {
		t.Errorf("something was changed, or a journal left: %v", journals(l))
	}

	// The direct path, with the port groups hidden: never guess a VLAN.
	l.arm(`{"fault":"hide-dvs"}`)
	l.run(with("apply", "--to", "standard", "--via", "esxi")...).want(t, exitUnsafe, "not to be guessed")
}

// An open journal stands in the way of the next move, and another machine can
// end it with nothing but the file.
func TestNetJournalElsewhere(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	before := l.look().signature()
	if err := l.killed(with("apply", "--to", "standard"), `{"fault":"hold","call":1,"method":"UpdateNetworkConfig","when":"after"}`); err != nil {
		t.Fatal(err)
	}
	l.heal()
	l.run("net", "status", "nuc01").want(t, exitPending, "not finished", "interrupted in", "change")
	l.run(with("apply", "--to", "distributed")...).want(t, exitUnsafe, "is not finished", "labctl net resume nuc01")
	l.run("net", "cleanup", "nuc01", "--yes").want(t, exitUnsafe, "is not finished")
	l.run("net", "resume", "nuc01").want(t, exitUsage, "--yes")

	file := journals(l)[0]
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("journal: %v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := writeTemp(t, "journal.jsonl", string(b)+`{"kind":"answer","act":"chan`) // torn by the crash
	cmd := l.command("net", "rollback", "--journal", elsewhere, "--yes", "--accept-risk=lose-management")
	passwords := []string{}
	for _, s := range []struct{ variable, whose string }{{"LABCTL_PASSWORD", "nuc01"}, {"LABCTL_VCENTER_PASSWORD", "vcenter"}} {
		b, err := os.ReadFile(l.config + "." + s.whose + ".password")
		if err != nil {
			t.Fatal(err)
		}
		passwords = append(passwords, s.variable+"="+strings.TrimSpace(string(b)))
	}
	home := t.TempDir()
	cmd.Env = append([]string{"HOME=" + home, "XDG_STATE_HOME=" + filepath.Join(home, "state"), "NO_COLOR=1"}, passwords...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rollback from another machine: %v\n%s", err, out)
	}
	if l.look().signature() != before {
		t.Errorf("rolled back from another machine, but the host is elsewhere\n%s", out)
	}
}

// The first interrupt stops what has not begun and finishes what has; the
// second one stops at once and says what is left.
func TestNetInterrupt(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	before := l.look().signature()
	interrupted := func(hold string, times int, release bool) (int, string) {
		t.Helper()
		l.reset()
		l.arm(hold)
		cmd := l.command(with("apply", "--to", "standard", "--timeout", "20s")...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		l.eventually("the held call", func() bool { return l.look().Held > 0 })
		for range times {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // two at once would be one
		}
		if release {
			l.call("POST", "/release", "")
		}
		_ = cmd.Wait()
		l.call("POST", "/release", "")
		l.heal()
		return cmd.ProcessState.ExitCode(), stderr.String()
	}

	code, said := interrupted(`{"fault":"hold","call":1,"method":"RetrievePropertiesEx","when":"before"}`, 1, false)
	if code != exitInterrupted || len(journals(l)) != 0 || l.look().signature() != before {
		t.Errorf("before the change: exit %d, journals %v\n%s", code, journals(l), said)
	}
	code, said = interrupted(`{"fault":"hold","call":1,"method":"UpdateNetworkConfig","when":"after"}`, 1, true)
	if h := l.look().Hosts[0]; code != exitDone || h.Management.SwitchKind != "standard" {
		t.Errorf("during the change: exit %d, vmk0 on a %s switch\n%s", code, h.Management.SwitchKind, said)
	}
	code, said = interrupted(`{"fault":"hold","call":1,"method":"UpdateNetworkConfig","when":"after"}`, 2, false)
	if code != exitInterrupted || !strings.Contains(said, "labctl net resume nuc01") || !strings.Contains(said, journals(l)[0]) {
		t.Errorf("second interrupt: exit %d\n%s", code, said)
	}
	l.run(with("resume")...).want(t, exitDone)
}

func TestNetCleanup(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.run(with("apply", "--to", "standard")...).want(t, exitDone)
	l.run("net", "cleanup", "nuc01", "--via", "esxi").want(t, exitDone, "only vCenter can end it")
	l.run("net", "cleanup", "nuc01").want(t, exitDone, "membership of DVS0", "to remove what is safe: labctl net cleanup nuc01 --yes")
	if !strings.Contains(l.look().signature(), `"DVS0"`) {
		t.Fatal("cleanup without --yes removed something")
	}
	l.run("net", "cleanup", "nuc01", "--yes").want(t, exitDone, "removed membership of DVS0")
	if sig := l.look().signature(); strings.Contains(sig, `"DVS0"`) {
		t.Errorf("the host is still a member:\n%s", sig)
	}
	l.run("net", "cleanup", "nuc01", "--yes").want(t, exitDone, "nothing left over")
	l.run(with("rollback")...).want(t, exitUnsafe, "cleaned up", "labctl net plan nuc01 --to distributed")

	// The way the hint names: the host joins again, and what goes wrong after
	// that takes the membership away again.
	l.arm(`{"fault":"fail-before","method":"UpdateNetworkConfig","type":"HostConfigFault","count":1}`)
	before := l.look().signature()
	l.run(with("apply", "--to", "distributed", "--timeout", "2s")...).want(t, exitUnchanged)
	if sig := l.look().signature(); sig != before {
		t.Errorf("exit 5, but the host is not as it was:\n%s\nwanted\n%s", sig, before)
	}
	l.heal()
	l.run(with("apply", "--to", "distributed")...).want(t, exitDone)
	l.run("net", "cleanup", "nuc01", "--yes").want(t, exitDone, "removed standard switch vSwitch0")
	if h := l.look().Hosts[0]; h.Management.SwitchKind != "distributed" || !h.Management.Reachable {
		t.Errorf("management: %+v", h.Management)
	}
}

// What labctl neither made nor emptied is nobody's to throw away but the one who
// names it.
func TestNetCleanupSparesOthers(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--scene", "standard")
	before := l.look().signature()
	l.run("net", "cleanup", "nuc01", "--yes").want(t, exitDone, "membership of DVS0", "it may be isolated on purpose", "--switch NAME")
	l.run("net", "cleanup", "nuc01", "--yes", "--switch", "DVS1").want(t, exitUsage, "--switch DVS1", "unused: DVS0")
	if sig := l.look().signature(); sig != before {
		t.Errorf("cleanup took what is not labctl's:\n%s", sig)
	}
	l.run("net", "status", "nuc01").want(t, exitDone)
	l.run("net", "cleanup", "nuc01", "--yes", "--switch", "DVS0").want(t, exitDone, "removed membership of DVS0")
}

func TestNetSeveralHosts(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--scene", "rack")
	all := append([]string{"net", "apply", "nuc01", "nuc02", "nuc03", "--to", "standard"}, sure...)
	l.arm(`{"fault":"busy","host":"nuc02"}`)
	l.run(all...).want(t, exitUnsafe, "not touched: nuc03")
	for i, want := range []string{"standard", "distributed", "distributed"} {
		if h := l.look().Hosts[i]; h.Management.SwitchKind != want {
			t.Errorf("%s is on a %s switch, want %s", h.Name, h.Management.SwitchKind, want)
		}
	}
	l.heal()
	l.run(all...).want(t, exitDone)
	for _, h := range l.look().Hosts {
		if h.Management.SwitchKind != "standard" {
			t.Errorf("%s is on a %s switch", h.Name, h.Management.SwitchKind)
		}
	}
}

// One labctl at a time per host.
func TestNetLock(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.arm(`{"fault":"hold","call":3,"when":"before"}`)
	cmd := l.command(with("apply", "--to", "standard")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the held call", func() bool { return l.look().Held > 0 })
	l.run(with("apply", "--to", "standard")...).want(t, exitFailed, fmt.Sprintf("process %d", cmd.Process.Pid), "net apply")
	l.call("POST", "/release", "")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the first one: %v", err)
	}
}
