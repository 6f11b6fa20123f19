//go:build !linux

package gadget

import "errors"

func mountConfigFS(string) error { return errors.ErrUnsupported }
