//go:build !linux

package main

import "os"

// holdConsole is for the text consoles of Linux.
func holdConsole(*os.File) (release func()) { return func() {} }
