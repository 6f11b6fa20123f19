//go:build !windows

package main

import "os"

// understandsSequences is true of every terminal but Windows' older ones.
func understandsSequences(*os.File) bool { return true }
