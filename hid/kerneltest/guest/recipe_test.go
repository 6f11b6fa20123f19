//go:build linux

package guest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// practise runs labctl dcui on tty1, with a session of its own as a login there
// has.
func practise(t *testing.T, env []string, facts ...string) (result *bytes.Buffer, ended chan error) {
	t.Helper()
	tty, err := os.OpenFile("/dev/tty1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := unix.IoctlSetInt(int(tty.Fd()), unix.TCFLSH, unix.TCIFLUSH); err != nil {
		t.Fatal(err)
	}
	args := []string{"dcui", "-o", "json"}
	for _, f := range facts {
		args = append(args, "--fact", f)
	}
	cmd := exec.Command("/bin/labctl", args...)
	cmd.Env = append([]string{"PATH=/bin", "HOME=/root", "TERM=linux"}, env...)
	result = &bytes.Buffer{}
	cmd.Stdin, cmd.Stderr, cmd.Stdout = tty, tty, result
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return result, ended
}

// screenText is the text of tty1 as the kernel holds it, 80 characters a line.
func screenText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/dev/vcs1")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range slices.Chunk(b, 80) {
		lines = append(lines, strings.TrimRight(string(line), " "))
	}
	return strings.Join(lines, "\n")
}

// untilScreen waits for a text on tty1.
func untilScreen(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(screenText(t), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q on the screen:\n%s", text, screenText(t))
		}
	}
}

// restore is the shipped recipe of that name but for what the network has to
// confirm, as there is none.
const restore = `recipe: restore
summary: Put vmk0 and its uplink back on a standard vSwitch, from the DCUI
risk: destructive
requires: {management: distributed}
secrets: {password: ESXi root password}
steps:
  - anchor
  - login
  - select: Network Restore Options
  - select: Restore Standard Switch
  - confirm: F11
`

// TestRecipe types the restoring of the standard switch through the gadget into a
// model that reads a real console: the keys go through the kernel's keyboard
// driver and its console keymap. The recipe's run does not know in which of two
// ways the menu is; the console has the one in which counting four goes wrong.
func TestRecipe(t *testing.T) {
	const secret = "N0t-a;Word"
	password := []string{"LABCTL_PASSWORD=" + secret, "HOME=/root"}
	up(t)
	loadUS(t)
	file := filepath.Join(t.TempDir(), "restore.yaml")
	if err := os.WriteFile(file, []byte(restore), 0o600); err != nil {
		t.Fatal(err)
	}
	known := []string{"esxi=6.7", "console=local", "vcenter=yes", "lockdown=off", "management=distributed",
		"wrap=no", "screen=welcome", "caps=off", "layout=us", "shell=off", "ssh=off"}
	result, ended := practise(t, password, append(known, "lockdown_item=selectable")...)
	untilScreen(t, "Customize System")
	args := []string{"recipe", "run", file, "--keyboard", "/dev/hidg0", "--yes", "-o", "json"}
	for _, f := range known {
		args = append(args, "--fact", f)
	}
	said := labctlOK(t, password, args...)
	untilScreen(t, "standard switch restored")
	screenshot(t, "dcui-tty1")
	labctlOK(t, nil, "hid", "press", "CTRL+Q")
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("%v: %s", err, result)
		}
	case <-time.After(patience):
		t.Fatalf("the console has not ended:\n%s", screenText(t))
	}
	var end struct {
		Effect  string
		Effects []string
	}
	lastJSON(t, result.String(), &end)
	if end.Effect != "standard switch restored" || len(end.Effects) != 1 {
		t.Errorf("it ends with %q, want the standard switch restored and nothing else: %s", end.Effects, result)
	}
	if strings.Contains(said+result.String(), secret) {
		t.Error("the password is in the output")
	}
}

// loadUS loads the US keymap and ends all locks.
func loadUS(t *testing.T) {
	t.Helper()
	c := openConsole(t)
	data, err := os.ReadFile("/etc/keymaps/us")
	if err != nil {
		t.Fatal(err)
	}
	loadKeymap(t, c, data)
	if _, err := c.file.WriteString("\x1bc"); err != nil {
		t.Fatal(err)
	}
	c.close()
}
