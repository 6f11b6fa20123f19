package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/labctl/labctl/internal/skipped"
)

// when and which are of the packages under test, whatever the repository is at.
const (
	which = "1.2.3~git20260102030405.abcdef0"
	when  = 1767323045 // 2026-01-02 03:04:05 UTC
)

// copyTree makes a copy of what git knows of the source, or of all where there
// is no git. Each stat makes go test run again after a change.
func copyTree(t testing.TB, to string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	keep := func(string) bool { return true }
	if out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output(); err == nil {
		known := map[string]bool{}
		for name := range strings.SplitSeq(string(out), "\x00") {
			known[name] = true
		}
		keep = func(rel string) bool { return known[rel] }
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "build"}, rel) {
				return fs.SkipDir
			}
			return nil
		}
		if !keep(rel) || strings.HasSuffix(rel, "_test.go") || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err == nil {
			err = write(to, rel, b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// packed builds everything once, in a folder, and the packages once more in
// another, as make would.
var packed = sync.OnceValue(func() (p struct {
	first, second, pack string
	sources             []string
	err                 error
}) {
	var dir string
	if dir, p.err = os.MkdirTemp("", "labctl-pack-test-"); p.err != nil {
		return p
	}
	scratch = append(scratch, dir)
	p.pack = filepath.Join(dir, "pack")
	var out []byte
	if out, p.err = exec.Command("go", "build", "-o", p.pack, ".").CombinedOutput(); p.err != nil {
		p.err = fmt.Errorf("%w: %s", p.err, out)
		return p
	}
	p.first, p.second = filepath.Join(dir, "one"), filepath.Join(dir, "another/with a longer name")
	p.sources = []string{filepath.Join(p.first, "labctl"), filepath.Join(p.second, "source of labctl")}
	return p
})

var scratch []string

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range scratch {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// runPack runs pack in a copy of the source.
func runPack(t testing.TB, source string, args ...string) {
	t.Helper()
	p := packed()
	if p.err != nil {
		t.Fatal(p.err)
	}
	if _, err := os.Stat(source); err != nil {
		copyTree(t, source)
	}
	cmd := exec.CommandContext(t.Context(), p.pack, args...)
	cmd.Dir = source
	// A umask and a time zone of its own must not show.
	cmd.Env = append(os.Environ(), "VERSION="+which, "SOURCE_DATE_EPOCH="+strconv.Itoa(when), "TZ=Pacific/Auckland", "GIT_CEILING_DIRECTORIES="+filepath.Dir(source))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pack %q: %v\n%s", args, err, out)
	}
}

var buildOnce sync.Once

// packages returns the folder with the packages of every architecture.
func packages(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds packages")
	}
	skipped.Without(t, "dpkg-deb", "dpkg")
	buildOnce.Do(func() { runPack(t, packed().sources[0], "deb") })
	return filepath.Join(packed().sources[0], "dist")
}

func debName(arch string) string { return "labctl_" + which + "-1_" + arch + ".deb" }

func sameFiles(t *testing.T, a, b string, names ...string) {
	t.Helper()
	for _, name := range names {
		one, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		another, err := os.ReadFile(filepath.Join(b, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, another) {
			t.Errorf("%s differs between two builds of the same source", name)
		}
	}
}

// Two builds in different folders are the same to the last byte.
func TestReproducible(t *testing.T) {
	first := packages(t)
	old := syscall.Umask(0o077)
	runPack(t, packed().sources[1], "deb")
	syscall.Umask(old)
	second := filepath.Join(packed().sources[1], "dist")
	sameFiles(t, first, second, debName("amd64"), debName("arm64"), debName("armhf"))
}

// The release has what its name says for each platform, and its sums and its bill
// of materials are true.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds for six platforms")
	}
	one, two := t.TempDir(), t.TempDir()
	runPack(t, packed().sources[0], "-out", one, "release")
	prefix := "labctl-1.2.3-git20260102030405.abcdef0"
	sums, err := os.ReadFile(filepath.Join(one, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(sums)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		names = append(names, name)
	}
	expect := []string{prefix + "-darwin-amd64", prefix + "-darwin-arm64", prefix + "-linux-amd64", prefix + "-linux-arm64",
		prefix + "-linux-armv6", prefix + "-windows-amd64.exe", prefix + ".cdx.json"}
	if !slices.Equal(names, expect) {
		t.Errorf("SHA256SUMS names %q, want %q", names, expect)
	}
	check := exec.Command("sha256sum", "--check", "--quiet", "SHA256SUMS")
	check.Dir = one
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v: %s", err, out)
	}
	var sbom bill
	text, err := os.ReadFile(filepath.Join(one, prefix+".cdx.json"))
	if err == nil {
		err = json.Unmarshal(text, &sbom)
	}
	if err != nil {
		t.Fatal(err)
	}
	if sbom.Format != "CycloneDX" || sbom.Metadata.Component.Version != which || sbom.Metadata.Timestamp != "2026-01-02T03:04:05Z" {
		t.Errorf("the bill of materials is of %+v", sbom.Metadata)
	}
	listed := map[string]component{}
	for _, c := range sbom.Components {
		listed[c.Name+"@"+c.Version] = c
	}
	for _, p := range platforms {
		name := filepath.Join(one, prefix+"-"+p.name)
		if p.os == "windows" {
			name += ".exe"
		}
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := map[string]string{}
		for _, s := range info.Settings {
			set[s.Key] = s.Value
		}
		if set["GOOS"] != p.os || set["GOARCH"] != p.arch || set["GOARM"] != p.arm || set["CGO_ENABLED"] != "0" {
			t.Errorf("%s is for %s/%s %s, cgo %s", name, set["GOOS"], set["GOARCH"], set["GOARM"], set["CGO_ENABLED"])
		}
		for _, m := range info.Deps {
			if c := listed[m.Path+"@"+m.Version]; len(c.Licences) != 1 {
				t.Errorf("the bill of materials lacks %s %s of %s, or its licence", m.Path, m.Version, p.name)
			}
		}
	}
	if c := listed["github.com/inconshreveable/mousetrap@v1.1.0"]; len(c.Properties) != 1 || c.Properties[0].Value != prefix+"-windows-amd64.exe" {
		t.Errorf("what only Windows needs is listed as %+v", c)
	}
	// What runs here says what it is; what cannot work here says so elsewhere.
	out, err := exec.Command(filepath.Join(one, prefix+"-linux-amd64"), "version", "-o", "json").Output()
	if err != nil || !strings.Contains(string(out), `"release": "`+which+`"`) || !strings.Contains(string(out), `"time": "2026-01-02T03:04:05Z"`) {
		t.Errorf("%v: %s", err, out)
	}
	for _, name := range []string{prefix + "-darwin-arm64", prefix + "-windows-amd64.exe"} {
		b, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte("a USB keyboard needs Linux and a USB port that can play device, and this is ")) {
			t.Errorf("%s does not say that hid needs Linux", name)
		}
	}
	runPack(t, packed().sources[1], "-out", two, "release")
	sameFiles(t, one, two, append(names, "SHA256SUMS")...)
}

// entries reads a package's files.
func entries(t *testing.T, deb, part string) map[string]*tar.Header {
	t.Helper()
	out, err := exec.Command("dpkg-deb", part, deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = h
	}
}

// What is in each package, whose it is, and of when.
func TestPackages(t *testing.T) {
	dist := packages(t)
	for arch, machine := range map[string]struct {
		elf         elf.Machine
		arch, goarm string
	}{
		"amd64": {elf.EM_X86_64, "amd64", ""}, "arm64": {elf.EM_AARCH64, "arm64", ""}, "armhf": {elf.EM_ARM, "arm", "6"},
	} {
		deb := filepath.Join(dist, debName(arch))
		for _, part := range []string{"--ctrl-tarfile", "--fsys-tarfile"} {
			for name, h := range entries(t, deb, part) {
				mode := int64(0o644)
				if h.Typeflag == tar.TypeDir || name == "./usr/bin/labctl" || strings.HasSuffix(name, "inst") || strings.HasSuffix(name, "rm") && part == "--ctrl-tarfile" {
					mode = 0o755
				}
				if h.Uid != 0 || h.Gid != 0 || h.Mode != mode || h.ModTime.Unix() != when {
					t.Errorf("%s: %s belongs to %d:%d, mode %o, of %s", arch, name, h.Uid, h.Gid, h.Mode, h.ModTime.UTC())
				}
			}
		}
		files := entries(t, deb, "--fsys-tarfile")
		for _, name := range []string{
			"usr/bin/labctl", "usr/share/man/man1/labctl.1.gz", "usr/share/man/man1/labctl-net-plan.1.gz",
			"usr/share/bash-completion/completions/labctl", "usr/share/zsh/vendor-completions/_labctl", "usr/share/fish/vendor_completions.d/labctl.fish",
			"usr/lib/systemd/system/labctl-gadget.service", "usr/lib/udev/rules.d/60-labctl.rules",
			"usr/share/doc/labctl/copyright", "usr/share/doc/labctl/changelog.Debian.gz", "usr/share/doc/labctl/examples/labctl.yaml",
			"usr/share/labctl/recipe.schema.json", "usr/share/labctl/labctl.schema.json",
		} {
			if files["./"+name] == nil {
				t.Errorf("%s lacks %s", arch, name)
			}
		}
		root := t.TempDir()
		if out, err := exec.Command("dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f, err := elf.Open(filepath.Join(root, "usr/bin/labctl"))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine.elf {
			t.Errorf("%s has a binary for %s", arch, f.Machine)
		}
		for _, s := range f.Progs {
			if s.Type == elf.PT_INTERP {
				t.Errorf("%s: the binary is not static", arch)
			}
		}
		f.Close()
		info, err := buildinfo.ReadFile(filepath.Join(root, "usr/bin/labctl"))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range info.Settings {
			if s.Key == "GOARM" && s.Value != machine.goarm {
				t.Errorf("%s needs version %s of ARM", arch, s.Value)
			}
		}
		text, err := os.ReadFile(filepath.Join(root, "usr/share/doc/labctl/copyright"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range info.Deps {
			if !strings.Contains(string(text), "\nFiles: "+m.Path+"/*\n") {
				t.Errorf("%s: the copyright file does not name %s", arch, m.Path)
			}
		}
		for _, s := range []string{"\nFiles: hid/layouts_gen.go\n", "Copyright 1996 by Joseph Moss", "/usr/share/common-licenses/Apache-2.0"} {
			if !strings.Contains(string(text), s) {
				t.Errorf("%s: the copyright file lacks %q", arch, s)
			}
		}
		page, err := os.Open(filepath.Join(root, "usr/share/man/man1/labctl.1.gz"))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(page)
		if err != nil || !z.ModTime.IsZero() || z.Name != "" {
			t.Errorf("%s: the compressed page has a time or a name: %v", arch, err)
		}
		page.Close()
	}
}

// Debian's own critic has nothing to say.
func TestLintian(t *testing.T) {
	dist := packages(t)
	skipped.Without(t, "lintian", "lintian")
	args := []string{"--fail-on", "error,warning", "--no-tag-display-limit", "--allow-root"}
	for _, arch := range []string{"amd64", "arm64", "armhf"} {
		args = append(args, filepath.Join(dist, debName(arch)))
	}
	if out, err := exec.Command("lintian", args...).CombinedOutput(); err != nil || regexp.MustCompile(`(?m)^[EW]: `).Match(out) {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// cached is where what comes from Debian's archive is kept between runs.
func cached(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("labctl-test-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "labctl-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// archive returns where this machine's apt gets Debian from, and which release.
func archive(ctx context.Context) (url, codename string, err error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages", "Origin: Debian", "Component: main").Output()
	if err == nil {
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) == 2 && !strings.Contains(f[1], "-") {
				return f[0], f[1], nil
			}
		}
		err = errors.New("none of its sources is Debian's main archive; apt-get update may help")
	}
	return "", "", fmt.Errorf("asking apt for its archive: %w", err)
}

// debian returns a folder with a fresh minimal Debian of that architecture. The
// first time it is fetched, which takes minutes; later it comes from the cache.
// For a foreign architecture it is unpacked only, as dpkg's own first step does.
func debian(t *testing.T, arch string, include string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("installs into a Debian of its own")
	}
	if os.Geteuid() != 0 {
		skipped.Test(t, "packages are installed in a chroot, which takes root")
	}
	skipped.Without(t, "apt-get", "apt")
	skipped.Without(t, "debootstrap", "debootstrap")
	skipped.Without(t, "unshare", "util-linux")
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	url, codename, err := archive(ctx)
	if err != nil {
		skipped.Test(t, "%v", err)
	}
	foreign := arch != hostArch(ctx, t)
	base := cached(t, fmt.Sprintf("debian_%s_%s_%s.tar", codename, arch, strings.ReplaceAll(include, ",", "_")))
	if _, err := os.Stat(base); err != nil {
		work, err := os.MkdirTemp(filepath.Dir(base), ".new-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(work)
		args := []string{"--variant=minbase", "--arch=" + arch}
		if include != "" {
			args = append(args, "--include="+include)
		}
		if foreign {
			args = append(args, "--foreign")
		}
		root := filepath.Join(work, "root")
		cmd := exec.CommandContext(ctx, "debootstrap", append(args, codename, root, url)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			skipped.Test(t, "debootstrap of %s for %s: %v: %s", codename, arch, err, lastLine(out))
		}
		tarball := filepath.Join(work, "tar")
		if out, err := exec.CommandContext(ctx, "tar", "-C", root, "--exclude=./var/cache/apt/archives/*.deb", "--numeric-owner", "-cf", tarball, ".").CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
		if err := os.Rename(tarball, base); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	if out, err := exec.CommandContext(ctx, "tar", "-C", root, "--numeric-owner", "-xpf", base).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func hostArch(ctx context.Context, t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output()
	if err != nil {
		skipped.Test(t, "dpkg: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func lastLine(b []byte) string {
	s := strings.TrimSpace(string(b))
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// chroot runs a script there as a user, who is given as USER:GROUP, with its own
// processes, all of which end with it.
func chroot(t *testing.T, root, user, home, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc="+root+"/proc",
		"chroot", "--userspec="+user, root, "/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME="+home, "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "MANPAGER=cat", "MANWIDTH=80", "sh", "-ec", "cd; "+script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustChroot(t *testing.T, root, user, home, script string) string {
	t.Helper()
	out, err := chroot(t, root, user, home, script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// putDebs copies the package into the root, and an older one with the same files.
func putDebs(t *testing.T, root, arch string) {
	t.Helper()
	deb := filepath.Join(packages(t), debName(arch))
	b, err := os.ReadFile(deb)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "new.deb"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(t.TempDir(), "old")
	if out, err := exec.Command("dpkg-deb", "-R", deb, work).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	control, err := os.ReadFile(filepath.Join(work, "DEBIAN/control"))
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(control), which, "1.2.3~git20251231235959.fffffff", 1)
	// A file that the newer one has no more.
	err = errors.Join(os.WriteFile(filepath.Join(work, "DEBIAN/control"), []byte(older), 0o644),
		os.WriteFile(filepath.Join(work, "usr/share/doc/labctl/gone"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--build", "--root-owner-group", "-Znone", work, filepath.Join(root, "old.deb")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func there(root, name string) bool {
	_, err := os.Lstat(filepath.Join(root, name))
	return err == nil
}

// TestInstalled takes the road of somebody with a new Debian: install, upgrade,
// look, rehearse, plan, remove.
func TestInstalled(t *testing.T) {
	root := debian(t, hostArch(t.Context(), t), "man-db,udev,systemd,bash-completion,zsh,fish")
	arch := hostArch(t.Context(), t)
	putDebs(t, root, arch)
	asRoot := func(script string) string { t.Helper(); return mustChroot(t, root, "0:0", "/root", script) }

	asRoot("apt-get install -qy --no-install-recommends /old.deb")
	if !there(root, "usr/share/doc/labctl/gone") {
		t.Error("the older package is not whole")
	}
	asRoot("apt-get install -qy --no-install-recommends /new.deb")
	if there(root, "usr/share/doc/labctl/gone") {
		t.Error("the upgrade left a file of the older package")
	}
	if out := asRoot("dpkg-query -W -f '${Version} ${Status}' labctl; dpkg --verify labctl"); out != which+"-1 install ok installed" {
		t.Errorf("after the upgrade: %s", out)
	}
	if out := asRoot("getent group labctl"); !regexp.MustCompile(`^labctl:x:[0-9]{3}:\n$`).MatchString(out) {
		t.Errorf("the group is %q, want a system group without members", out)
	}

	// The unit is sound, and shut in.
	if out := asRoot("systemd-analyze verify /usr/lib/systemd/system/labctl-gadget.service 2>&1"); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	asRoot("systemd-analyze security --no-pager --offline=yes --threshold=15 labctl-gadget.service")                                                                  // of 100; most units have 90 and more
	if out, err := chroot(t, root, "0:0", "/root", "udevadm verify /usr/lib/udev/rules.d/60-labctl.rules"); err != nil && !strings.Contains(out, "Unknown command") { // since version 254
		t.Errorf("udevadm verify: %v: %s", err, out)
	}

	// Somebody who is not root, in an empty home.
	asRoot("useradd -m -s /bin/bash anna")
	anna := func(script string) string { t.Helper(); return mustChroot(t, root, "anna:anna", "/home/anna", script) }
	if out := anna("labctl version"); !strings.HasPrefix(out, "labctl    "+which+"\n") {
		t.Errorf("labctl version: %s", out)
	}
	for page, text := range map[string]string{"labctl": "moves, rescues and equips", "labctl-net-plan": "labctl net plan [HOST]", "labctl-hid-up": "USB"} {
		if out := anna("man " + page); !strings.Contains(out, text) {
			t.Errorf("man %s:\n%.400s", page, out)
		}
	}
	if out := anna("apropos labctl-net-apply"); !strings.Contains(out, "(1)") {
		t.Errorf("apropos does not know the pages: %s", out)
	}
	if out := anna(`bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader labctl; complete -p labctl'`); !strings.Contains(out, "__start_labctl") {
		t.Errorf("bash completes nothing: %s", out)
	}
	if out := anna(`zsh -fc 'autoload -Uz compinit; compinit -u -D; print $_comps[labctl]'`); out != "_labctl\n" {
		t.Errorf("zsh completes nothing: %q", out)
	}
	if out := anna(`fish -c 'complete -C "labctl net pl"'`); !strings.HasPrefix(out, "plan") {
		t.Errorf("fish completes nothing: %q", out)
	}
	anna("labctl recipe rehearse restore-standard-switch")
	if out, err := chroot(t, root, "anna:anna", "/home/anna", "labctl hid press F2"); err == nil {
		t.Errorf("a key went out without a keyboard: %s", out)
	}
	planned(t, root, anna)
	anna("labctl config check --config /usr/share/doc/labctl/examples/labctl.yaml")

	asRoot("apt-get remove -qy labctl")
	for _, name := range []string{"usr/bin/labctl", "usr/share/labctl", "usr/share/doc/labctl", "usr/lib/systemd/system/labctl-gadget.service", "usr/lib/udev/rules.d/60-labctl.rules"} {
		if there(root, name) {
			t.Errorf("%s is left after removal", name)
		}
	}
	// With a member the group stays, without it goes.
	asRoot("apt-get install -qy --no-install-recommends /new.deb; adduser --quiet anna labctl; apt-get purge -qy labctl; getent group labctl")
	asRoot("apt-get install -qy --no-install-recommends /new.deb; deluser --quiet anna labctl; apt-get purge -qy labctl; ! getent group labctl; ! dpkg -s labctl")
}

// planned goes from nothing to a planned move, against a lab outside.
func planned(t *testing.T, root string, anna func(string) string) {
	t.Helper()
	dir := t.TempDir()
	labsim := filepath.Join(dir, "labsim")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", labsim, "../../cmd/labsim").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config := filepath.Join(dir, "lab.yaml")
	var said syncBuffer
	lab := exec.CommandContext(t.Context(), labsim, "--write-config", config)
	lab.Stdout, lab.Stderr = &said, &said
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	defer lab.Wait()
	defer lab.Process.Kill()
	for end := time.Now().Add(time.Minute); !strings.Contains(said.String(), "LABCTL_CONFIG="); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("labsim does not start: %s", said.String())
		}
	}
	address := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + ` +https://(\S+?)(?:/sdk)? `).FindStringSubmatch(said.String())
		if m == nil {
			t.Fatalf("labsim names no %s:\n%s", name, said.String())
		}
		return m[1]
	}
	for _, name := range []string{"nuc01", "vcenter"} {
		b, err := os.ReadFile(config + "." + name + ".password")
		if err == nil {
			err = write(root, "home/anna/"+name+".password", b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	anna("labctl config init --host nuc01 --url https://root@" + address("nuc01") + " --vcenter https://" + address("vcenter") + " --password-file '~/nuc01.password'")
	anna("labctl config check")
	anna("labctl host trust nuc01 --yes; labctl host trust vcenter --yes")
	if out := anna("LABCTL_VCENTER_PASSWORD=$(cat vcenter.password) labctl net plan nuc01 --to standard --out plan.json"); !strings.Contains(out, "vmk0") || !strings.Contains(out, "vSwitch0") {
		t.Errorf("the plan:\n%s", out)
	}
	if !there(root, "home/anna/plan.json") {
		t.Error("the plan is not saved")
	}
}

// syncBuffer is written by a process and read meanwhile.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestARM installs the package for 64-bit ARM in that Debian, and runs all
// binaries, under QEMU's user emulation. The kernel is told of the emulator in a
// user namespace, so that nothing changes outside. The Debian is unpacked only:
// to have it configure itself would take ten minutes, so dpkg is told to do
// without the state of other packages.
func TestARM(t *testing.T) {
	skipped.Without(t, "qemu-aarch64-static", "qemu-user-static")
	root := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-x", filepath.Join(packages(t), debName("armhf")), root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The processor of a Pi Zero, version 6: a later one's instruction would end it.
	out, err := exec.Command("qemu-arm-static", "-cpu", "arm1176", filepath.Join(root, "usr/bin/labctl"), "recipe", "check", "restore-standard-switch").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(string(out), "needs facts") {
		t.Errorf("on version 6 of ARM: %v\n%s", err, out)
	}

	format, err := os.ReadFile("/usr/lib/binfmt.d/qemu-aarch64.conf")
	if err != nil {
		skipped.Test(t, "how to register the emulator: %v", err)
	}
	root = debian(t, "arm64", "")
	putDebs(t, root, "arm64")
	inside := func(script string) (string, error) {
		// The registration holds the emulator open, so it need not be in the chroot,
		// and lives as long as it is mounted.
		mount := "mount -t binfmt_misc none " + root + "/mnt && cat >" + root + "/mnt/register && mount -t proc proc " + root + "/proc && " +
			"exec chroot " + root + " /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive /bin/sh -ec \"$1\""
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-ec", mount, "sh", script)
		ids := []syscall.SysProcIDMap{{Size: 65536}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		}
		cmd.Stdin = bytes.NewReader(format)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// Debian's accounts, which base-passwd's own script would copy so.
	for _, name := range []string{"passwd", "group"} {
		b, err := os.ReadFile(filepath.Join(root, "usr/share/base-passwd", name+".master"))
		if err == nil {
			err = write(root, "etc/"+name, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"proc", "mnt"} {
		full := filepath.Join(root, name)
		if info, err := os.Lstat(full); err == nil && info.Mode()&fs.ModeSymlink != 0 { // so debootstrap leaves /proc in a container
			if err := os.Remove(full); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(full, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if machine, err := inside("uname -m"); err != nil || machine != "aarch64\n" {
		skipped.Test(t, "no emulation in a user namespace, which Linux has since 6.7: %v: %s", err, lastLine([]byte(machine)))
	}
	run := func(script string) string {
		t.Helper()
		out, err := inside(script)
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return out
	}
	run("touch /var/lib/dpkg/status; dpkg --force-depends -i /old.deb; dpkg --force-depends -i /new.deb")
	if out := run("dpkg-query -W -f '${Architecture} ${Version} ${Status}' labctl"); out != "arm64 "+which+"-1 install ok installed" {
		t.Errorf("after the upgrade: %s", out)
	}
	if out := run("getent group labctl; labctl version"); !strings.Contains(out, "labctl:x:") || !strings.Contains(out, "linux/arm64") {
		t.Errorf("installed: %s", out)
	}
	run("labctl recipe rehearse restore-standard-switch")
	run("dpkg --purge labctl; test ! -e /usr/bin/labctl")
	if out := run("getent group labctl || echo none"); out != "none\n" {
		t.Errorf("the group is left: %s", out)
	}
}
