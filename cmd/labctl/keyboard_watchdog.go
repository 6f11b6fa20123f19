package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/gadget"
)

// A watchdog is a second labctl that waits for the first one to end. It reads
// from a pipe whose other end only the first holds, so that the kernel itself
// tells it of the end, by whatever cause, kill -9 included. Unless the first has
// said that it cleaned up, it releases all keys and unbinds the keyboard: to the
// host that is a pulled plug, which releases every key too and drops the report
// that waits.
type watchdog struct {
	cmd   *exec.Cmd
	pipe  *os.File      // closing it wakes the watchdog
	ended chan struct{} // closed when the watchdog has ended
	once  sync.Once
}

// watchdogName is the process name. It is another than labctl's, since who ends
// labctl by name does not mean to leave a key down. (A killall that goes by the
// program's file, as that of busybox does, ends both. Then the keyboard stays
// bound until the next run, which unbinds it first.)
const watchdogName = "hid-watchdog"

const (
	watchdogStart = 10 * time.Second // until it is ready; a loaded Pi needs a second
	watchdogEnd   = 2 * time.Second  // after it was told that all is clean
	watchdogWork  = 10 * time.Second // to unbind
	allClean      = "clean\n"
)

// startWatchdog returns once the watchdog of the gadget is on guard. It keeps
// the lock as long as it lives.
func (a *app) startWatchdog(ctx context.Context, root, device string, lock *keyboardLock) (*watchdog, error) {
	fail := func(err error) (*watchdog, error) {
		return nil, fmt.Errorf("starting the keyboard's watchdog: %w", err)
	}
	self := "/proc/self/exe" // also where the file was replaced since
	if _, err := os.Stat(self); err != nil {
		if self, err = os.Executable(); err != nil {
			return fail(err)
		}
	}
	in, pipe, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer in.Close()
	ready, out, err := os.Pipe()
	if err != nil {
		pipe.Close()
		return fail(err)
	}
	defer out.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{watchdogName, "hid", "watchdog", "--root", root, "--device", device},
		Env:   []string{"HOME=/"}, // nothing of ours: secrets may stand in the environment
		Stdin: in, Stdout: out,
		ExtraFiles: []*os.File{lock.file},
		// A session of its own: what a terminal sends to this one's processes when it
		// is closed, or at ctrl-c, is not for the watchdog.
		SysProcAttr: ownSession(),
	}
	if f, ok := a.stderr.(*os.File); ok {
		cmd.Stderr = f
	}
	if err := cmd.Start(); err != nil {
		pipe.Close()
		ready.Close()
		return fail(err)
	}
	out.Close()
	w := &watchdog{cmd: cmd, pipe: pipe, ended: make(chan struct{})}
	up := make(chan error, 1)
	go func() {
		defer ready.Close()
		ready.SetReadDeadline(time.Now().Add(watchdogStart))
		_, err := ready.Read(make([]byte, 16))
		up <- err
		cmd.Wait()
		close(w.ended)
	}()
	select {
	case err = <-up:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		switch {
		case errors.Is(err, io.EOF):
			err = errors.New("it ended at once")
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = fmt.Errorf("it is not ready after %s", watchdogStart)
		}
		w.stop()
		return fail(err)
	}
	return w, nil
}

// alive is an error where the watchdog has ended before its time.
func (w *watchdog) alive() error {
	select {
	case <-w.ended:
		return errors.New("the keyboard's watchdog has ended")
	default:
		return nil
	}
}

// stop ends the watchdog: the keyboard is unbound already.
func (w *watchdog) stop() {
	w.once.Do(func() {
		w.pipe.WriteString(allClean)
		w.pipe.Close()
		select {
		case <-w.ended:
		case <-time.After(watchdogEnd):
			w.cmd.Process.Kill() // with nothing to guard it can only be in the way
		}
	})
}

// hidWatchdogCommand is the other side: labctl starts it, no user does.
func (a *app) hidWatchdogCommand() *cobra.Command {
	var root, device string
	c := &cobra.Command{
		Use: "watchdog", Short: "Unbind the keyboard when the labctl that started this has ended",
		Hidden: true,
		Args:   argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			return a.hidWatchdog(gadget.System{Root: root}, device)
		},
	}
	c.Flags().StringVar(&root, "root", "", "`DIR` before all paths")
	c.Flags().StringVar(&device, "device", "", "the keyboard's `FILE`")
	return c
}

func (a *app) hidWatchdog(sys gadget.System, device string) error {
	// Only the end of its labctl ends it.
	signal.Ignore(append(stopSignals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)...)
	os.WriteFile("/proc/self/comm", []byte(watchdogName), 0) // as far as the system has it
	if _, err := io.WriteString(a.stdout, "ready\n"); err != nil {
		return err
	}
	said, err := io.ReadAll(a.stdin)
	if err == nil && string(said) == allClean {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), watchdogWork)
	defer cancel()
	if strings.HasPrefix(device, "sim:") {
		return releaseConsole(ctx, device)
	}
	releaseKeys(ctx, filepath.Join(sys.Root, device))
	for {
		if err = sys.Unbind(ctx, ""); err == nil || errors.Is(err, gadget.ErrNoConfigFS) {
			a.say("a run ended without cleaning up: the keyboard is unbound, which releases its keys")
			return nil
		}
		if pauseErr := pause(ctx, 20*time.Millisecond); pauseErr != nil {
			return hintf(fmt.Errorf("a run ended without cleaning up, and a key may still be down: %w", err), "pull the keyboard's cable")
		}
	}
}

// releaseConsole lets go of the keys of a console in labsim, which nothing unplugs.
func releaseConsole(ctx context.Context, uri string) error {
	u, err := parseKeyboardURI(uri)
	if err != nil {
		return err
	}
	for c := newLabsimConsole(u); ; {
		if err = c.Take(ctx, hid.Report{}); err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("a run ended without cleaning up, and a key may still be down: %w", err)
		}
	}
}

// releaseKeys sends the report that releases everything, to a host that takes it
// at once. Such a host lets go of the keys some tenths of a second before its hub
// tells it of a pulled plug.
func releaseKeys(ctx context.Context, device string) {
	const atOnce = 50 * time.Millisecond // a host asks every 10 ms or more often
	kb, err := hid.Open(device, hid.Options{Deadline: atOnce})
	if err != nil {
		return // not bound
	}
	kb.Send(ctx, hid.Report{}) // or else the unbinding does it
	kb.Close()
}
