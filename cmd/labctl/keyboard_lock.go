package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// keyboardLock is a lock that a run shares with its watchdog: the kernel drops it
// when both have ended, so that no next run meets a watchdog that cleans up.
type keyboardLock struct{ file *os.File }

func (l *keyboardLock) release() {
	l.file.Truncate(0) // an old holder's name would mislead
	l.file.Close()
}

// leftoverLimit is how long a killed run's watchdog may take to clean up.
const leftoverLimit = 3 * time.Second

// lockKeyboard takes the lock called name in the first of the folders that is
// there or can be made. It waits only for the watchdog of a run that was killed.
func (a *app) lockKeyboard(ctx context.Context, dirs []string, name, command string) (*keyboardLock, error) {
	f, err := openLockFile(dirs, lockFile(name))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	for end := time.Now().Add(leftoverLimit); ; {
		err := a.holdLock(f, name, command)
		if err == nil {
			return &keyboardLock{f}, nil
		}
		var locked *lockedError
		if !errors.As(err, &locked) || holderLives(f) || !time.Now().Before(end) {
			f.Close()
			return nil, err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			f.Close()
			return nil, err
		}
	}
}

// holderLives says whether the process that wrote into the lock file is there.
func holderLives(f *os.File) bool {
	text, err := os.ReadFile(f.Name())
	var pid int
	if err == nil {
		_, err = fmt.Sscanf(string(text), "process %d,", &pid)
	}
	if err != nil || pid <= 0 {
		return false // it has not written yet, or has just ended: worth another look
	}
	if !processLives(pid) {
		return false
	}
	// A dead process stays listed until its parent has asked for its end.
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// keyboardDirs are the folders for the lock of this machine's USB keyboard. It is
// one for all users where the system has a place for that, since root and another
// user share the keyboard but no home.
func (a *app) keyboardDirs(root string) []string {
	dirs := []string{filepath.Join(root, "/run/lock")}
	if dir, err := a.statePath("locks"); err == nil {
		dirs = append(dirs, dir)
	}
	return append(dirs, filepath.Join(os.TempDir(), "labctl"))
}

// keyboardUser returns who holds the lock of this machine's USB keyboard, "" if
// nobody does.
func (a *app) keyboardUser(root string) string {
	for _, dir := range a.keyboardDirs(root) {
		f, err := os.OpenFile(filepath.Join(dir, "labctl-"+lockFile(gadgetLock)), os.O_RDONLY|noFollow, 0)
		if err != nil {
			continue
		}
		defer f.Close()
		if err := flock(f, false); err == nil {
			return ""
		}
		text, err := os.ReadFile(f.Name())
		if who := strings.TrimSpace(string(text)); err == nil && who != "" {
			return who
		}
		return "another labctl"
	}
	return ""
}

// openLockFile opens or makes a lock file that every user can lock. Only the
// folders after the first are made.
func openLockFile(dirs []string, name string) (*os.File, error) {
	const flags = os.O_RDWR | noFollow
	var first error
	for i, dir := range dirs {
		if i > 0 || len(dirs) == 1 {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				first = errors.Join(first, err)
				continue
			}
		}
		path := filepath.Join(dir, "labctl-"+name)
		// In a folder that all can write to, the kernel lets nobody open another
		// user's file with O_CREATE, so that comes second.
		f, err := os.OpenFile(path, flags, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
				f.Chmod(0o666) // whatever the umask; a lock that only its maker can take still works
			} else if errors.Is(err, fs.ErrExist) {
				f, err = os.OpenFile(path, flags, 0)
			}
		}
		if err == nil {
			return f, nil
		}
		first = errors.Join(first, err)
	}
	return nil, first
}

// chosenPort is the file that keeps hid up's --udc for the runs after it: a
// gadget that is not bound has no place for it. It lies beside the lock.
const chosenPort = "labctl-keyboard.udc"

// keepChosenPort writes the file anew. What somebody else may have put in its
// place, in a folder where all can write, is not followed.
func keepChosenPort(dir, port string) error {
	path := filepath.Join(dir, chosenPort)
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|noFollow, 0o644); err == nil {
			_, err = f.WriteString(port)
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("keeping the choice of port %s: %w", port, err)
	}
	return nil
}

// readChosenPort returns the port that hid up was told to use, "" for the only
// one there is.
func (a *app) readChosenPort(root string) string {
	for _, dir := range a.keyboardDirs(root) {
		f, err := os.OpenFile(filepath.Join(dir, chosenPort), os.O_RDONLY|noFollow, 0)
		if err != nil {
			continue
		}
		defer f.Close()
		b := make([]byte, 64) // names such as 3f980000.usb
		n, _ := f.Read(b)
		if name := string(b[:n]); name != "" && strings.Trim(name, portLetters) == "" {
			return name
		}
	}
	return ""
}

const portLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@-"

// dropChosenPort forgets the choice.
func (a *app) dropChosenPort(root string) error {
	for _, dir := range a.keyboardDirs(root) {
		if err := os.Remove(filepath.Join(dir, chosenPort)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forgetting the chosen port: %w", err)
		}
	}
	return nil
}
