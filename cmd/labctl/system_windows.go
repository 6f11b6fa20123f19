package main

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/windows"
)

// noFollow: Windows makes symbolic links for administrators only.
const noFollow = 0

// stopSignals: there is no ctrl-z.
var stopSignals []os.Signal

// errLocked: another process has the lock.
var errLocked = windows.ERROR_LOCK_VIOLATION

// flock locks an open file without waiting, alone or together with others that
// do not ask to be alone. Windows lets nobody read what is locked, so the lock
// is on a byte far beyond the name of the holder.
func flock(f *os.File, alone bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if alone {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	return windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
}

// processLives says whether there is a process of that number.
func processLives(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return err != windows.ERROR_INVALID_PARAMETER
	}
	defer windows.CloseHandle(h)
	var code uint32
	const stillActive = 259
	return windows.GetExitCodeProcess(h, &code) != nil || code == stillActive
}

// ownGroup keeps ctrl-c in the console from a child.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// ownSession is for the watchdog of a USB keyboard, which Windows has not.
func ownSession() *syscall.SysProcAttr { return ownGroup() }

// lookupEnv reads the environment, where the home folder has another name.
func lookupEnv(name string) (string, bool) {
	v, ok := os.LookupEnv(name)
	if !ok && name == "HOME" {
		return os.LookupEnv("USERPROFILE")
	}
	return v, ok
}

// openTTY opens the keyboard's side of the console, whose other side is another
// file.
func openTTY() (*os.File, error) { return os.OpenFile("CONIN$", os.O_RDWR, 0) }

// ttyOutput is the side of openTTY's file that shows text. A console that does
// not open has nobody before it.
func ttyOutput(*os.File) *os.File { return consoleOut() }

var consoleOut = sync.OnceValue(func() *os.File {
	f, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		return os.Stderr
	}
	steer(f)
	return f
})

// steer asks a console to obey escape sequences, which those of Windows 10 (1511)
// and later do once they are told to, and says whether this one does. Older ones,
// and files, do not.
func steer(f *os.File) bool {
	h := windows.Handle(f.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(h, &mode); err != nil {
		return false
	}
	return mode&windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING != 0 ||
		windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
