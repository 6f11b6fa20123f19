//go:build !linux

package gadget

import (
	"errors"
	"io/fs"
)

func mountConfigFS(string) error { return errors.ErrUnsupported }

func groupOf(fs.FileInfo) int { return 0 }
