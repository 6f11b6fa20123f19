package kerneltest

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/labctl/labctl/internal/skipped"
)

// onPi is what labctl does on a Raspberry Pi without a keyboard or a network.
var onPi = [][]string{
	{"version", "-o", "json"},
	{"recipe", "check", "restore-standard-switch", "-o", "json"},
	{"recipe", "check", "seed-restore-standard-switch", "-o", "json"},
	{"hid", "type", "Grüezi, \"Welt\" {1}", "--layout", "ch-de", "--dry-run", "-o", "json"},
}

// TestPi runs the programs for a Raspberry Pi under QEMU's user emulation: they
// are static, and do what the program for this machine does.
func TestPi(t *testing.T) {
	if testing.Short() {
		t.Skip("builds labctl three times")
	}
	root := moduleRoot(t)
	qemu := userEmulators(t)
	watchSources(t, root)
	dir := t.TempDir()
	native := filepath.Join(dir, "native")
	build(t, runtime.GOARCH, native, "build", "./cmd/labctl")
	for _, pi := range []struct{ arch, qemu string }{{"arm64", "qemu-aarch64"}, {"arm", "qemu-arm"}} {
		t.Run(pi.arch, func(t *testing.T) {
			program := filepath.Join(dir, pi.arch)
			build(t, pi.arch, program, "build", "./cmd/labctl")
			f, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Errorf("labctl for %s is not static: it has a segment %s", pi.arch, p.Type)
				}
			}
			for _, args := range onPi {
				want, wantCode := output(t, dir, native, args...)
				got, code := output(t, dir, qemu[pi.qemu], append([]string{program}, args...)...)
				// The version tells of the platform, the only difference there may be.
				got = bytes.ReplaceAll(got, []byte("linux/"+pi.arch), []byte("linux/"+runtime.GOARCH))
				if code != wantCode || !bytes.Equal(got, want) {
					t.Errorf("labctl %q on %s: exit %d\n%s\nand here: exit %d\n%s", args, pi.arch, code, got, wantCode, want)
				}
			}
		})
	}
}

func output(t *testing.T, home, program string, args ...string) (out []byte, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = []string{"HOME=" + home}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", program, err)
	}
	return out, cmd.ProcessState.ExitCode()
}

// userEmulators returns programs that run programs of other processors. Up to
// Debian 12 they come in qemu-user-static and have names of their own.
func userEmulators(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pkg := range []string{"qemu-user-static", "qemu-user"} {
		folder := fetch(t, pkg)[pkg]
		for _, name := range []string{"qemu-aarch64", "qemu-arm"} {
			for _, suffix := range []string{"-static", ""} {
				p := filepath.Join(folder, "usr/bin", name+suffix)
				if _, err := os.Stat(p); err == nil {
					found[name] = p
				}
			}
		}
		if len(found) == 2 {
			return found
		}
	}
	skipped.Test(t, "no qemu-aarch64 and qemu-arm in Debian's packages qemu-user-static and qemu-user")
	return nil
}
