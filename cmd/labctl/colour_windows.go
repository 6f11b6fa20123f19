package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// understandsSequences asks a Windows console to take escape sequences, which
// those of Windows 10 (1511) and later do once they are told to; older ones, and
// files, are left without colour.
func understandsSequences(f *os.File) bool {
	h := windows.Handle(f.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(h, &mode); err != nil {
		return false
	}
	if mode&windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING != 0 {
		return true
	}
	return windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
