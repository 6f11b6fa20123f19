package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// From linux/vt.h.
const (
	vtGetMode = 0x5601
	vtSetMode = 0x5602
	vtRelease = 0x5605 // VT_RELDISP: answers a request to switch

	vtProcess  = 1 // a switch is asked of the process that owns the console
	vtRefuse   = 0
	vtAcquired = 2
)

type vtMode struct {
	mode, wait          int8
	release, acquire, _ int16
}

// holdConsole keeps a text console in front. Its keyboard driver takes ALT+F2
// for a switch to the second console, and a recipe that is typed into the one
// at hand begins with that chord: all that follows would arrive at a login
// prompt. The kernel undoes it when the process ends, however that happens. On
// anything but a text console it does nothing.
func holdConsole(f *os.File) (release func()) {
	var before vtMode
	if modeIoctl(f, vtGetMode, &before) != nil {
		return func() {}
	}
	asked := make(chan os.Signal, 4)
	signal.Notify(asked, syscall.SIGUSR1, syscall.SIGUSR2)
	mode := vtMode{mode: vtProcess, release: int16(syscall.SIGUSR1), acquire: int16(syscall.SIGUSR2)}
	if modeIoctl(f, vtSetMode, &mode) != nil {
		signal.Stop(asked)
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-asked:
				if s == syscall.SIGUSR1 {
					ioctl(f, vtRelease, vtRefuse)
				} else {
					ioctl(f, vtRelease, vtAcquired)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		modeIoctl(f, vtSetMode, &before)
		signal.Stop(asked)
		close(done)
	}
}

func ioctl(f *os.File, request, arg uintptr) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, arg); errno != 0 {
		return errno
	}
	return nil
}

// modeIoctl has the pointer become a number within the call, where the garbage
// collector allows it.
func modeIoctl(f *os.File, request uintptr, m *vtMode) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(m))); errno != 0 {
		return errno
	}
	return nil
}
