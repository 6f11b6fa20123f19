package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labctl/labctl/hid"
)

// parseSSH reads ssh://[user@]host[:port][/dev/hidg0].
func parseSSH(k *keyboardPlace, u *url.URL) error {
	k.kind, k.addr, k.host, k.path = "ssh", u.Port(), u.Hostname(), u.Path
	if _, secret := u.User.Password(); secret {
		return errors.New("ssh takes no password there; a key or an agent proves who you are")
	}
	k.user = u.User.Username()
	if k.host == "" || !sshWord.MatchString(k.host) || k.user != "" && !sshWord.MatchString(k.user) {
		return errors.New("want the name that ssh knows the machine by, as in ssh://root@pi")
	}
	if k.addr != "" {
		if n, err := strconv.Atoi(k.addr); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("port %s is none", k.addr)
		}
	}
	switch k.path {
	case "", "/":
		k.path = "/dev/hidg0"
	default:
		if !gadgetFile.MatchString(k.path) {
			return errors.New("behind the name stands the keyboard's device file there, as in ssh://root@pi/dev/hidg0")
		}
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return errors.New("nothing follows the device file")
	}
	return nil
}

var (
	// A word that ssh cannot take for an option, nor a shell for more than a word.
	sshWord    = regexp.MustCompile(`^[A-Za-z0-9_.:][A-Za-z0-9_.:%\\+-]*$`)
	gadgetFile = regexp.MustCompile(`^/dev/hidg[0-9]{1,3}$`)
)

// sshArgs are the arguments of the user's own ssh. Its config, agent and known
// hosts decide; what would ask on the terminal fails instead, as labctl's screen
// may be there.
func sshArgs(u keyboardPlace) []string {
	args := []string{
		"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15",
		"-o", "RemoteCommand=none", // of a config's Host block
		"-o", "ClearAllForwardings=yes", // a port in use would end it
	}
	if u.addr != "" {
		args = append(args, "-p", u.addr)
	}
	who := u.host
	if u.user != "" {
		who = u.user + "@" + who
	}
	return append(args, "--", who, "labctl hid serve --stdio --device "+u.path)
}

// sshConn is a running ssh.
type sshConn struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.Reader
	ended  chan struct{} // closed when ssh has ended
	mu     sync.Mutex
	lines  []string // of its stderr that are not labctl's progress, the last few
	notes  func(string)
	closed sync.Once
}

func (c *sshConn) Read(b []byte) (int, error)  { return c.out.Read(b) }
func (c *sshConn) Write(b []byte) (int, error) { return c.in.Write(b) }

// sshEnd is how long ssh may take to end when its stdin is closed.
const sshEnd = 2 * time.Second

// Close ends ssh: at the far end, stdin ends.
func (c *sshConn) Close() error {
	c.closed.Do(func() {
		c.in.Close()
		select {
		case <-c.ended:
		case <-time.After(sshEnd):
			c.cmd.Process.Kill()
			<-c.ended
		}
	})
	return nil
}

// startSSH starts ssh; notes gets what labctl at the far end says.
func startSSH(u keyboardPlace, notes func(string)) (*sshConn, error) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return nil, hintf(errors.New("there is no program ssh in PATH"), "an ssh:// keyboard needs OpenSSH's client: apt install openssh-client, say")
	}
	c := &sshConn{cmd: exec.Command(program, sshArgs(u)...), ended: make(chan struct{}), notes: notes}
	// A group of its own: ctrl-c is for labctl, which then takes its time to let go
	// of the keys through this very connection.
	c.cmd.SysProcAttr = ownGroup()
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = out
	errs, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting ssh: %w", err)
	}
	said := make(chan struct{})
	go func() { defer close(said); c.hear(errs) }()
	go func() {
		// Not Wait: that would close stdout under who reads it.
		state, err := c.cmd.Process.Wait()
		if err == nil {
			c.cmd.ProcessState = state
		}
		select {
		case <-said:
		case <-time.After(time.Second): // a child of ssh may keep stderr open
		}
		close(c.ended)
	}()
	return c, nil
}

// hear reads ssh's stderr, and that of labctl at the far end.
func (c *sshConn) hear(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		if note, ok := strings.CutPrefix(text, "labctl: "); ok {
			c.notes(note)
		}
		c.mu.Lock()
		c.lines = append(c.lines[max(0, len(c.lines)-9):], text)
		c.mu.Unlock()
	}
	io.Copy(io.Discard, r)
}

// said returns the last line of stderr, "" for none.
func (c *sshConn) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) == 0 {
		return ""
	}
	return c.lines[len(c.lines)-1]
}

// openSSH opens the keyboard of another machine.
func (a *app) openSSH(ctx context.Context, u keyboardPlace, o keyboardOptions) (*keyboard, error) {
	c, err := startSSH(u, func(note string) { a.progress("%s: %s", u.host, note) })
	if err != nil {
		return nil, fmt.Errorf("opening keyboard %s: %w", u.text, err)
	}
	defer a.reminding(func() { a.progress("opening the keyboard of %s through ssh", u.host) })()
	r, err := hid.Attach(ctx, c, buildVersion().Release, hid.Wish{Command: o.Command, Settle: o.Settle, Watcher: o.Watcher, Timeout: a.set.Timeout})
	if err != nil {
		c.Close()
		return nil, a.sshFault(u, c, err)
	}
	kb := hid.NewKeyboard(r, hid.Options{Deadline: a.upTo(sshDeadline)})
	return &keyboard{Keyboard: kb, Name: u.text, finish: func() error {
		return errors.Join(kb.Close(), r.Close())
	}}, nil
}

// sshDeadline is for one report and its answer, on a slow connection.
const sshDeadline = 3 * time.Second

// sshFault says why no keyboard was opened, and what to do.
func (a *app) sshFault(u keyboardPlace, c *sshConn, err error) error {
	var version *hid.VersionError
	var remote *hid.RemoteError
	fail := func(err error, hint string, args ...any) error {
		err = fmt.Errorf("opening keyboard %s: %w", u.text, err)
		if hint == "" {
			return err
		}
		return hintf(err, hint, args...)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &version):
		return fail(version, "install the same labctl on this machine and on %s", u.host)
	case errors.As(err, &remote):
		if strings.HasPrefix(remote.Hint, "USB gadgets belong to root") {
			return fail(remote, "only root may use the keyboard there: --keyboard ssh://root@%s", u.host)
		}
		err := fmt.Errorf("on %s: %w", u.host, remote)
		if remote.Hint == "" {
			return fail(err, "")
		}
		return fail(err, "on %s: %s", u.host, remote.Hint)
	}
	said, code := c.said(), -1
	if c.cmd.ProcessState != nil {
		code = c.cmd.ProcessState.ExitCode()
	}
	reason := errors.New(strings.TrimPrefix(strings.TrimPrefix(said, "labctl: "), "ssh: "))
	if said == "" {
		reason = err
	}
	has := func(text string) bool { return strings.Contains(strings.ToLower(said), text) }
	switch {
	case code == 127:
		return fail(fmt.Errorf("there is no labctl in the PATH of a login by ssh on %s (%s)", u.host, said),
			"install labctl on %s, in /usr/local/bin say; ssh %s labctl version has to work", u.host, u.host)
	case code == 126:
		return fail(fmt.Errorf("labctl on %s does not run (%s)", u.host, said), "is it a build for that machine? ssh %s labctl version has to work", u.host)
	case code == exitUsage:
		return fail(fmt.Errorf("labctl on %s does not know hid serve as this one does: %w", u.host, reason),
			"install the same labctl on this machine and on %s: ssh %s labctl version tells which is there", u.host, u.host)
	case has("connection refused"):
		return fail(reason, "is sshd running on %s, and is that its port?", u.host)
	case has("permission denied"):
		return fail(reason, "ssh has to get in without a question: ssh-add, or ssh-copy-id to %s; --keyboard ssh://USER@%s names the user", u.host, u.host)
	case has("host key verification failed"), has("host identification has changed"):
		return fail(reason, "ssh does not know that machine or knows another one by its name: log in once by hand and compare")
	case has("could not resolve"), has("timed out"), has("no route to host"), has("unreachable"):
		return fail(reason, "is that machine on the network? ssh %s has to work by itself", u.host)
	case code == 255:
		return fail(reason, "ssh %s has to work by itself, without a question", u.host)
	}
	return fail(reason, "ssh %s labctl version has to work, and to print nothing before", u.host)
}
