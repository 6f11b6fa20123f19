package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lock takes the lock called name, for one labctl at a time, and returns what
// gives it back. It does not wait: where another process holds it, the error
// says which. The kernel drops a lock with its process, so that kill -9 leaves
// none behind; the file stays, and only its lock counts.
func (a *app) lock(name, command string) (unlock func(), err error) {
	dir, err := a.stateDir("locks")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile(name)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := a.holdLock(f, name, command); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		f.Truncate(0) // an old holder's name would mislead
		f.Close()
	}, nil
}

// lockedError says who has a lock.
type lockedError struct{ text string }

func (e *lockedError) Error() string { return e.text }

// holdLock locks an open lock file and writes into it who holds it. The error
// is a *lockedError where that is somebody else already.
func (a *app) holdLock(f *os.File, name, command string) error {
	if err := flock(f, true); err != nil {
		if !errors.Is(err, errLocked) {
			return fmt.Errorf("lock %s: %w", name, err)
		}
		holder, _ := os.ReadFile(f.Name())
		who := strings.TrimSpace(string(holder))
		if who == "" {
			who = "another labctl"
		}
		return hintf(&lockedError{fmt.Sprintf("%s is in use by %s", name, who)}, "one labctl at a time: wait for it, or end that process")
	}
	who := fmt.Sprintf("process %d, labctl %s, since %s\n", os.Getpid(), command, a.now().Format(time.RFC3339))
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(who), 0)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	return nil
}

// lockFile turns a name, an address or a URI into a file name; two names never
// share one.
func lockFile(name string) string {
	var out strings.Builder
	for _, b := range []byte(name) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_', b == '.':
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String() + ".lock"
}
