//go:build !linux

package hid

import "errors"

func openDevice(string) (device, error) { return nil, errors.ErrUnsupported }
