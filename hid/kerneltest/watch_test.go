package kerneltest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/labctl/labctl/internal/skipped"
)

// TestWatch runs hid watch, with libusb, against the gadget in one and the same
// machine: the kernel's own keyboard driver loses it to the watcher.
func TestWatch(t *testing.T) {
	image := newMachine(t)
	image.initrd = append(image.initrd, withLibusb(t)...)
	tests := "^TestWatch"
	if *guestIt != "" {
		tests = *guestIt
	}
	show(t, boot(t, image, tests))
}

// withLibusb builds labctl with the tag usb and returns an archive of it and the
// libraries that it loads: Linux unpacks several archives one after the other.
// Debian's packages of libusb are only unpacked, so this needs no root, and of the
// build machine a C compiler.
func withLibusb(t *testing.T) []byte {
	t.Helper()
	skipped.Without(t, "gcc", "gcc libc6-dev")
	packages := fetch(t, "libusb-1.0-0-dev", "libusb-1.0-0", "libudev1")
	libs := func(name string) string {
		found, err := filepath.Glob(filepath.Join(packages[name], "*", "*", "lib*.so.*"))
		more, _ := filepath.Glob(filepath.Join(packages[name], "*", "*", "*", "lib*.so.*"))
		if found = append(found, more...); err != nil || len(found) == 0 {
			t.Fatalf("no library in package %s, below %s", name, packages[name])
		}
		return filepath.Dir(found[0])
	}
	usb, udev := libs("libusb-1.0-0"), libs("libudev1")
	dir := t.TempDir()
	// What pkg-config would say had they been installed.
	config := filepath.Join(dir, "pkg-config")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*--cflags*) echo '-I%s' ;;\n*--libs*) echo '-L%s -l:libusb-1.0.so.0 -Wl,-rpath-link,%s' ;;\nesac\n",
		filepath.Join(packages["libusb-1.0-0-dev"], "usr/include/libusb-1.0"), usb, udev)
	if err := os.WriteFile(config, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "labctl-usb")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-tags", "usb", "-o", program, "./cmd/labctl")
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "PKG_CONFIG="+config)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build -tags usb: %v\n%s", err, said)
	}
	ldd := exec.CommandContext(t.Context(), "ldd", program)
	ldd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+usb+":"+udev)
	said, err := ldd.CombinedOutput()
	if err != nil {
		t.Fatalf("ldd: %v\n%s", err, said)
	}
	var a archive
	a.file("bin/labctl-usb", read(t, program))
	for line := range strings.Lines(string(said)) {
		// "libusb-1.0.so.0 => /…/libusb-1.0.so.0 (0x…)", or the loader's path alone.
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 3 && fields[1] == "=>":
			a.file("lib/"+fields[0], read(t, fields[2]))
		case strings.HasPrefix(fields[0], "/"):
			a.file(strings.TrimPrefix(fields[0], "/"), read(t, fields[0]))
		}
	}
	return a.close()
}
