package kerneltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/labctl/labctl/internal/skipped"
)

// TestSSH types over ssh: from one machine through OpenSSH into the same one, where
// the keyboard is a gadget of a real kernel. A hundred logins take their time under
// emulation, so they are spread.
func TestSSH(t *testing.T) {
	image := newMachine(t)
	image.initrd = append(image.initrd, withOpenSSH(t)...)
	if *guestIt != "" {
		show(t, boot(t, image, *guestIt))
		return
	}
	for _, tests := range []string{"^TestSSH", "^TestSSHKills$", "^TestSSHKills$", "^TestSSHKills$"} {
		t.Run("kills", func(t *testing.T) {
			t.Parallel()
			show(t, boot(t, image, tests, "LABCTL_KILLS=25"))
		})
	}
}

// withOpenSSH returns an archive of this system's OpenSSH and the libraries that
// it loads: as packages they would be some thirty.
func withOpenSSH(t *testing.T) []byte {
	t.Helper()
	programs := map[string]string{"/usr/sbin/sshd": "openssh-server", "/usr/bin/ssh": "openssh-client", "/usr/bin/ssh-keygen": "openssh-client"}
	for program, debian := range programs {
		skipped.Without(t, program, debian)
	}
	// From release 9.8 on sshd starts programs of its own.
	for _, name := range []string{"sshd-session", "sshd-auth"} {
		if p := filepath.Join("/usr/lib/openssh", name); exists(p) {
			programs[p] = ""
		}
	}
	var a archive
	done := map[string]bool{}
	for program := range programs {
		a.file(strings.TrimPrefix(program, "/"), read(t, program))
		out, err := exec.CommandContext(t.Context(), "ldd", program).CombinedOutput()
		if err != nil {
			t.Fatalf("ldd %s: %v\n%s", program, err, out)
		}
		for line := range strings.Lines(string(out)) {
			// "libz.so.1 => /…/libz.so.1 (0x…)", or the loader's path alone.
			fields := strings.Fields(line)
			file, inside := "", ""
			switch {
			case len(fields) >= 3 && fields[1] == "=>":
				file, inside = fields[2], "lib/"+fields[0]
			case strings.HasPrefix(fields[0], "/"):
				file, inside = fields[0], strings.TrimPrefix(fields[0], "/")
			}
			if file != "" && !done[inside] {
				done[inside] = true
				a.file(inside, read(t, file))
			}
		}
	}
	a.link("bin/ssh", "/usr/bin/ssh")
	a.file("etc/passwd", []byte("root:*:0:0::/root:/bin/sh\nsshd:*:101:65534::/run/sshd:/bin/false\n"))
	a.file("etc/group", []byte("root:x:0:\nnogroup:x:65534:\n"))
	return a.close()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
