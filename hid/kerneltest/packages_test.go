package kerneltest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/internal/skipped"
)

// cache is where packages and what comes out of them are kept between runs.
func cache(t testing.TB) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("labctl-test-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "labctl-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// debian is one version of a package, as apt's signed lists describe it.
type debian struct {
	name, version, arch, sha256, depends string
}

func describe(ctx context.Context, name string) (debian, error) {
	d := debian{name: name}
	out, err := exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", name).Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return d, fmt.Errorf("apt knows no package %s: apt-get update may help", name)
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Version":
			d.version = value
		case "Architecture":
			d.arch = value
		case "SHA256":
			d.sha256 = value
		case "Depends":
			d.depends = value
		}
	}
	if d.version == "" || d.sha256 == "" {
		return d, fmt.Errorf("apt says neither version nor checksum of %s", name)
	}
	return d, nil
}

var kernelName = regexp.MustCompile(`\blinux-image-[0-9][^ ,(]*`)

// kernelPackage is the stock kernel: the cloud flavour has no USB.
func kernelPackage(ctx context.Context) (debian, error) {
	meta, err := describe(ctx, "linux-image-amd64")
	if err != nil {
		return meta, err
	}
	name := kernelName.FindString(meta.depends)
	if name == "" {
		return meta, fmt.Errorf("linux-image-amd64 depends on %q, which is no kernel", meta.depends)
	}
	return describe(ctx, name)
}

// unpacked returns the folder with the files of a package, from the cache or
// fresh from the archive. Nothing gets installed and root is not needed.
func unpacked(ctx context.Context, t testing.TB, d debian) (string, error) {
	t.Helper()
	root := filepath.Join(cache(t), fmt.Sprintf("%s_%s_%s", d.name, strings.ReplaceAll(d.version, ":", "_"), d.sha256[:12]))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	// A folder of its own, renamed when it is whole: two runs may come together,
	// and one may be stopped half way.
	work, err := os.MkdirTemp(cache(t), ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	get := exec.CommandContext(ctx, "apt-get", "download", "-q", d.name+"="+d.version)
	get.Dir = work
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("downloading %s: %w: %s", d.name, err, tail(string(out), 3))
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("downloading %s: %d packages came", d.name, len(debs))
	}
	sum, err := sumOf(debs[0])
	if err != nil {
		return "", err
	}
	if sum != d.sha256 {
		return "", fmt.Errorf("%s: checksum %s, and apt's list says %s", d.name, sum, d.sha256)
	}
	files := filepath.Join(work, "files")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], files).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpacking %s: %w: %s", d.name, err, tail(string(out), 3))
	}
	if err := os.Rename(files, root); err != nil {
		if _, statErr := os.Stat(root); statErr != nil {
			return "", err
		}
	}
	return root, nil
}

func sumOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fetch returns the folders of packages by name; where they cannot be had the
// test is skipped.
func fetch(t testing.TB, names ...string) map[string]string {
	t.Helper()
	skipped.Without(t, "apt-get", "apt (the kernel of these tests is Debian's)")
	skipped.Without(t, "dpkg-deb", "dpkg")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := describe(ctx, names[0]); err != nil && os.Getuid() == 0 {
		// A new machine has no lists yet.
		if out, err := exec.CommandContext(ctx, "apt-get", "update", "-q").CombinedOutput(); err != nil {
			t.Logf("apt-get update: %v: %s", err, tail(string(out), 3))
		}
	}
	folders := map[string]string{}
	for _, name := range names {
		describeIt := describe
		if name == kernel {
			describeIt = func(ctx context.Context, _ string) (debian, error) { return kernelPackage(ctx) }
		}
		d, err := describeIt(ctx, name)
		if err == nil {
			folders[name], err = unpacked(ctx, t, d)
		}
		if err != nil {
			skipped.Test(t, "%v", err)
		}
	}
	return folders
}

const kernel = "linux-image-amd64"

// tail returns the last lines of a text.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// watchSources makes go test run these tests again after any change of the
// module: they build programs from it, which the cache of test results does not
// see. What a test looks at, it does.
func watchSources(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") && p != root {
			return fs.SkipDir
		}
		if ext := filepath.Ext(p); ext == ".go" || ext == ".yaml" || ext == ".json" || e.Name() == "go.mod" {
			_, err = os.Stat(p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
