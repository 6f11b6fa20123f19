//go:build linux

package guest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const sshd = "/usr/sbin/sshd"

// overSSH is the keyboard of this machine over ssh.
const overSSH = "ssh://pi"

// startSSHD makes this machine one that logs in to itself, by the name of pi.
func startSSHD(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("for the machine that has OpenSSH")
	}
	loopback(t, true)
	for _, dir := range []string{"/run/sshd", "/run/lock", "/root/.ssh"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		run(t, "/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(dir, "known"): "127.0.0.1 " + string(public),
		filepath.Join(dir, "sshd_config"): fmt.Sprintf(`ListenAddress 127.0.0.1
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
SetEnv PATH=/bin
`, dir),
		"/root/.ssh/config": fmt.Sprintf(`Host pi
  HostName 127.0.0.1
  User root
  IdentityFile %[1]s/user
  UserKnownHostsFile %[1]s/known
  KexAlgorithms curve25519-sha256
`, dir), // the usual one takes a second under emulation
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	var log said
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.String())
		}
	})
	until(t, patience, "sshd answers", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:22")
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// loopback is the wire of these tests, and can be cut.
func loopback(t *testing.T, up bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(0)
	if up {
		r.SetUint16(unix.IFF_UP)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatalf("loopback up %v: %v", up, err)
	}
}

// process is one of this machine.
type process struct {
	pid, parent int
	name        string
	args        []string
}

func find(is func(process) bool) (process, bool) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		var p process
		line, err := os.ReadFile(dir + "/cmdline")
		stat, statErr := os.ReadFile(dir + "/stat")
		// As in "12 (sshd) S 1": proc(5).
		head, tail, ok := strings.Cut(string(stat), ") ")
		number, name, _ := strings.Cut(head, " (")
		var state string
		_, scanErr := fmt.Sscan(number+" "+tail, &p.pid, &state, &p.parent)
		if err != nil || statErr != nil || !ok || scanErr != nil || state == "Z" {
			continue
		}
		p.name = name
		for word := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
			p.args = append(p.args, string(word))
		}
		if is(p) {
			return p, true
		}
	}
	return process{}, false
}

// victims are the processes of a run over ssh that can be killed.
type victims struct{ client, session, far process }

// findVictims returns false where one of them has ended.
func findVictims(l *labctl) (v victims, ok bool) {
	if v.far, ok = find(func(p process) bool { return len(p.args) > 2 && p.args[1] == "hid" && p.args[2] == "serve" }); !ok {
		return v, false
	}
	// Above it is perhaps a shell, and then sshd's process for this login.
	for v.session = v.far; !strings.HasPrefix(v.session.name, "sshd"); {
		parent := v.session.parent
		if v.session, ok = find(func(p process) bool { return p.pid == parent }); !ok {
			return v, false
		}
	}
	v.client, ok = find(func(p process) bool { return p.parent == l.cmd.Process.Pid && p.name == "ssh" })
	return v, ok
}

// stoodStill says that a run broke off because this emulated machine gave nobody
// the processor for the half second after which the far end gives up, as it should.
func stoodStill(l *labctl) bool {
	return l.cmd.ProcessState.ExitCode() != 0 && strings.Contains(l.stderr.String(), "nothing came from the other end")
}

// TestSSHTyping: a secret arrives over ssh as it is, on a console with Caps Lock on.
func TestSSHTyping(t *testing.T) {
	const secret = "Passw0rd!xY"
	startSSHD(t)
	up(t)
	loadUS(t)
	c := openConsole(t)
	if err := unix.IoctlSetInt(c.fd, kdSetLock, capsLock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.IoctlSetInt(c.fd, kdSetLock, 0) })
	var l *labctl
	for range 5 {
		c.forget()
		l = start(t, []string{"HOME=/root", "LABCTL_SECRET_TEXT=" + secret}, "hid", "type", "--secret", "--layout", "us", "--keyboard", overSSH)
		if l.exit(t, 2*patience); !stoodStill(l) {
			break
		}
		waitGone(t)
	}
	if code := l.exit(t, patience); code != 0 {
		t.Fatalf("exit %d: %s", code, l.stderr.String())
	}
	until(t, patience, "the text is there", func() bool { return len(c.text()) >= len(secret) })
	if c.text() != secret {
		t.Errorf("what arrived is not what was typed (%d characters)", len(c.text()))
	}
	if said := l.stdout.String() + l.stderr.String(); strings.Contains(said, secret) {
		t.Error("labctl prints the secret")
	}
	waitGone(t)
}

// TestSSHKills ends a run over ssh at either end, or cuts the wire, at any moment.
// No key is down longer than a second after it, and at most the one that was on
// its way is pressed; the next run needs no repair.
func TestSSHKills(t *testing.T) {
	startSSHD(t)
	up(t)
	env := []string{"HOME=/root"}
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var longest time.Duration
	var after []float64
	starved := 0
	for round := 0; round < kills(); round++ {
		args := []string{"hid", "type", strings.Repeat("ab", 500), "--hold", "40ms", "--gap", "5ms"}
		if round%2 == 1 { // a key that is down for much longer than it may be after the end
			args = []string{"hid", "press", "--hold", "8s", "A", "B"}
		}
		l, host := tryTyping(t, env, append(args, "--keyboard", overSSH)...)
		var at victims
		if host != nil {
			if ev := host.next(t); ev.code != codeA || ev.value != 1 {
				t.Fatalf("%d: %s arrived, want A: %s", round, ev, l.stderr.String())
			}
			var all bool
			if at, all = findVictims(l); !all {
				host = nil
			}
		}
		if host == nil {
			l.exit(t, patience)
			if starved == kills() || !stoodStill(l) {
				t.Fatalf("%d: labctl broke off: %s", round, l.stderr.String())
			}
			starved++
			round--
			until(t, patience, "all of labctl has ended", func() bool { return len(processes()) == 0 })
			waitGone(t)
			continue
		}
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		whom := []string{"labctl", "ssh", "hangs", "far", "session", "wire"}[round/2%6]
		ended := monotonic(t)
		switch whom {
		case "labctl":
			_ = unix.Kill(l.cmd.Process.Pid, unix.SIGKILL)
		case "hangs":
			_ = unix.Kill(l.cmd.Process.Pid, unix.SIGSTOP)
		case "ssh":
			_ = unix.Kill(at.client.pid, unix.SIGKILL)
		case "far":
			_ = unix.Kill(at.far.pid, unix.SIGKILL)
		case "session":
			_ = unix.Kill(at.session.pid, unix.SIGKILL)
		case "wire":
			loopback(t, false)
		}
		end := host.after(t, ended, codeA)
		switch whom {
		case "hangs":
			_ = unix.Kill(l.cmd.Process.Pid, unix.SIGCONT)
		case "wire":
			loopback(t, true) // what is still in it may arrive now
		}
		if end.up > time.Second {
			t.Errorf("%d, %s: a key is down %s after it", round, whom, end.up)
		}
		if end.presses > 1 {
			t.Errorf("%d, %s: %d keys were pressed after it", round, whom, end.presses)
		}
		t.Logf("%d, %s: all keys are up %s after it", round, whom, end.up)
		longest = max(longest, end.up)
		after = append(after, end.up.Seconds()*1000)
		if code := l.exit(t, patience); whom != "labctl" && code != 6 {
			t.Errorf("%d, %s: exit %d, want 6: %s", round, whom, code, l.stderr.String())
		}
		until(t, patience, "all of labctl has ended", func() bool { return len(processes()) == 0 })
		if eventNode() != "" {
			t.Errorf("%d, %s: the host sees the keyboard again", round, whom)
		}
	}
	t.Logf("%d kills, and %d runs that broke off because the machine stood still", kills(), starved)
	figure("ssh-kill-to-release-ms", median(after))
	figure("ssh-kill-to-release-max-ms", longest.Seconds()*1000)
	l, host := tryTyping(t, env, "hid", "press", "F2", "--keyboard", overSSH)
	for ; host == nil && starved > 0; starved-- {
		l, host = tryTyping(t, env, "hid", "press", "F2", "--keyboard", overSSH)
	}
	if host == nil {
		t.Fatalf("the run after them: %s", l.stderr.String())
	}
	host.want(t, codeF2)
	if code := l.exit(t, patience); code != 0 {
		t.Errorf("the run after them: exit %d: %s", code, l.stderr.String())
	}
}
