package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"golang.org/x/sync/errgroup"
)

const (
	maintainer = "labctl authors <labctl@users.noreply.github.com>"
	revision   = "-1" // Debian's, of how the same version is packed
	docFolder  = "usr/share/doc/labctl"
)

// debs writes a package for each of Debian's architectures, with dpkg-deb.
func debs(t *tree, out, only string) ([]string, error) {
	targets, err := pick(only, true)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "labctl-deb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	// All but the binary and the control file is the same for each.
	common := filepath.Join(work, "common")
	if err := t.commonFiles(common); err != nil {
		return nil, err
	}
	var files []string
	var each errgroup.Group // xz keeps one processor busy for long
	for _, p := range targets {
		name := filepath.Join(out, fmt.Sprintf("labctl_%s%s_%s.deb", t.version, revision, p.debian))
		files = append(files, name)
		each.Go(func() error {
			if err := t.deb(p, common, filepath.Join(work, p.debian), name); err != nil {
				return fmt.Errorf("package for %s: %w", p.debian, err)
			}
			return nil
		})
	}
	return files, each.Wait()
}

// commonFiles fills the folder with what every package holds.
func (t *tree) commonFiles(root string) error {
	labctl, done, err := t.native()
	if err != nil {
		return err
	}
	defer done()
	if _, err := t.run(labctl, "man", filepath.Join(root, "usr/share/man/man1")); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(root, "usr/share/man/man1/*.1"))
	if err != nil {
		return err
	}
	for _, p := range pages {
		if _, err := t.run("gzip", "-9n", p); err != nil {
			return err
		}
	}
	for shell, file := range map[string]string{
		"bash": "usr/share/bash-completion/completions/labctl",
		"zsh":  "usr/share/zsh/vendor-completions/_labctl",
		"fish": "usr/share/fish/vendor_completions.d/labctl.fish",
	} {
		text, err := t.run(labctl, "completion", shell)
		if err == nil {
			err = write(root, file, []byte(text))
		}
		if err != nil {
			return err
		}
	}
	copies := map[string]string{
		"configs/labctl-gadget.service": "usr/lib/systemd/system/labctl-gadget.service",
		"configs/60-labctl.rules":       "usr/lib/udev/rules.d/60-labctl.rules",
		"configs/labctl.example.yaml":   docFolder + "/examples/labctl.yaml",
		"configs/deb/lintian-overrides": "usr/share/lintian/overrides/labctl",
		"configs/labctl.schema.json":    "usr/share/labctl/labctl.schema.json",
		"configs/recipe.schema.json":    "usr/share/labctl/recipe.schema.json",
	}
	outputs, err := filepath.Glob(t.file("configs/output/*.json"))
	if err != nil {
		return err
	}
	for _, name := range outputs {
		copies["configs/output/"+filepath.Base(name)] = "usr/share/labctl/output/" + filepath.Base(name)
	}
	for from, to := range copies {
		text, err := os.ReadFile(t.file(from))
		if err == nil {
			err = write(root, to, text)
		}
		if err != nil {
			return err
		}
	}
	copyright, err := t.copyright()
	if err != nil {
		return err
	}
	if err := write(root, docFolder+"/copyright", copyright); err != nil {
		return err
	}
	if err := write(root, docFolder+"/changelog.Debian", []byte(t.changelog())); err != nil {
		return err
	}
	_, err = t.run("gzip", "-9n", filepath.Join(root, docFolder, "changelog.Debian"))
	return err
}

func (t *tree) changelog() string {
	built := "Packed without a repository."
	if t.commit != "" {
		built = "Packed from commit " + t.commit + "."
	}
	return fmt.Sprintf("labctl (%s%s) unstable; urgency=medium\n\n  * %s\n\n -- %s  %s\n", t.version, revision, built, maintainer, t.time.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// deb makes one package of the common files in a folder of its own.
func (t *tree) deb(p platform, common, root, out string) error {
	if err := os.CopyFS(root, os.DirFS(common)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		return err
	}
	if err := t.build(p, filepath.Join(root, "usr/bin/labctl")); err != nil {
		return err
	}
	sums, size, err := contents(root)
	if err != nil {
		return err
	}
	if err := write(root, "DEBIAN/md5sums", sums); err != nil {
		return err
	}
	tmpl, err := template.ParseFiles(t.file("configs/deb/control.tmpl"))
	if err != nil {
		return err
	}
	var control bytes.Buffer
	err = tmpl.Execute(&control, map[string]string{
		"Version": t.version + revision, "Arch": p.debian, "Maintainer": maintainer, "Size": strconv.FormatInt(size, 10),
	})
	if err == nil {
		err = write(root, "DEBIAN/control", control.Bytes())
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		var text []byte
		if err == nil {
			text, err = os.ReadFile(t.file("configs/deb/" + script))
		}
		if err == nil {
			err = write(root, "DEBIAN/"+script, text)
		}
	}
	if err == nil {
		err = t.settle(root)
	}
	if err != nil {
		return err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return err
	}
	// The number of threads shows in what xz writes.
	env := []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(t.time.Unix(), 10), "DPKG_DEB_THREADS_MAX=1", "LC_ALL=C"}
	_, err = t.runWith(env, "dpkg-deb", "--build", "--root-owner-group", "-Zxz", root, out)
	return err
}

// contents returns the sums of all files, and their size in KiB, each file by
// itself, as Debian counts (deb-substvars(5), Installed-Size).
func contents(root string) (sums []byte, size int64, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			size++
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		size += (int64(len(b)) + 1023) / 1024
		rel, err := filepath.Rel(root, p)
		sums = fmt.Appendf(sums, "%x  %s\n", md5.Sum(b), filepath.ToSlash(rel))
		return err
	})
	return sums, size, err
}

// settle gives every file the commit's time and a mode that no umask changes.
func (t *tree) settle(root string) error {
	var all []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		rel, err := filepath.Rel(root, p)
		if rel = filepath.ToSlash(rel); d.IsDir() || rel == "usr/bin/labctl" || slices.Contains([]string{"DEBIAN/postinst", "DEBIAN/prerm", "DEBIAN/postrm"}, rel) {
			mode = 0o755
		}
		all = append(all, p)
		if err != nil {
			return err
		}
		return os.Chmod(p, mode)
	})
	for _, p := range slices.Backward(all) { // a folder after what is in it
		if err == nil {
			err = os.Chtimes(p, t.time, t.time)
		}
	}
	return err
}

func write(root, name string, text []byte) error {
	full := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	return os.WriteFile(full, text, 0o644)
}

// indent sets a text into a field of a control file, whose empty lines are dots.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text)) {
		if line = strings.TrimRight(line, " \t\r\n\f"); line == "" {
			line = "."
		}
		b.WriteString(" " + line + "\n")
	}
	return b.String()
}
