//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// What of the system labctl needs beyond package os, where Windows differs.

// noFollow keeps open from going through a symbolic link at the end of a path.
const noFollow = syscall.O_NOFOLLOW

// stopSignals are what ctrl-z sends.
var stopSignals = []os.Signal{syscall.SIGTSTP}

// errLocked: another process has the lock.
var errLocked = syscall.EWOULDBLOCK

// flock locks an open file without waiting, alone or together with others that
// do not ask to be alone. The lock goes with the last copy of the descriptor.
func flock(f *os.File, alone bool) error {
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	return syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
}

// processLives says whether there is a process of that number.
func processLives(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// ownGroup keeps ctrl-c in the terminal from a child.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ownSession keeps everything that a terminal sends from a child.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

var lookupEnv = os.LookupEnv

// openTTY opens the terminal that the user sits at.
func openTTY() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) }

// ttyOutput is the side of openTTY's file that shows text.
func ttyOutput(f *os.File) *os.File { return f }

// steer says that a terminal obeys escape sequences, which all do but Windows'
// older ones.
func steer(*os.File) bool { return true }
