package gadget

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func mountConfigFS(at string) error {
	if err := unix.Mount("none", at, "configfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return nil
}

// groupOf returns the number of a file's group.
func groupOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return 0
}
