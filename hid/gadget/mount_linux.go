package gadget

import (
	"os"

	"golang.org/x/sys/unix"
)

func mountConfigFS(at string) error {
	if err := unix.Mount("none", at, "configfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return nil
}
