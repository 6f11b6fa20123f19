//go:build linux

package guest

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGroup: a member of the group types without being root, and nobody else
// does. What udev does with the package's rule this test does in its place, and
// late, as on a busy machine.
func TestGroup(t *testing.T) {
	const gid = 4711
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/group", []byte("root:x:0:\nlabctl:x:4711:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove("/etc/group") })
	// As systemd makes it.
	if err := os.MkdirAll("/run/lock", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("/run/lock", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("/tmp", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	up(t)
	member := &syscall.Credential{Uid: 1000, Gid: 1000, Groups: []uint32{1000, gid}}
	other := &syscall.Credential{Uid: 1001, Gid: 1001}

	refused := startAs(t, other, nil, "hid", "press", "F2")
	if code := refused.exit(t, patience); code != 1 || !strings.Contains(refused.stderr.String(), "usermod -aG labctl") {
		t.Errorf("somebody else: exit %d: %s", code, refused.stderr.String())
	}
	if node := eventNode(); node != "" {
		t.Fatalf("somebody else bound the keyboard: %s", node)
	}

	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			info, err := os.Stat("/dev/hidg0")
			if err == nil && info.Mode().Perm() == 0o600 {
				time.Sleep(200 * time.Millisecond)
				os.Chown("/dev/hidg0", 0, gid)
				os.Chmod("/dev/hidg0", 0o660)
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	for range 2 {
		l := startAs(t, member, nil, "hid", "press", "F2", "--wait-for-watcher")
		until(t, patience, "the host sees the keyboard", func() bool { return l.over() || eventNode() != "" })
		if l.over() {
			t.Fatalf("a member: %s", l.stderr.String())
		}
		host := openEvents(t)
		if !host.sign(t, l) {
			t.Fatalf("a member: %s", l.stderr.String())
		}
		host.want(t, codeF2)
		if code := l.exit(t, patience); code != 0 {
			t.Fatalf("a member: exit %d: %s", code, l.stderr.String())
		}
		waitGone(t)
	}
}
