package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// tree is the source that is packed.
type tree struct {
	dir     string
	version string    // without a leading v; sorts by age as a Debian version
	commit  string    // "" outside of a repository
	time    time.Time // of the commit
}

// firstVersion is what the commits before any tag lead to.
const firstVersion = "0.1.0"

// readTree asks git. Outside of a repository, as in an unpacked archive, VERSION
// and SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/)
// say what git would; set inside, they win.
func readTree(dir string, getenv func(string) string) (*tree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{dir: dir, version: getenv("VERSION")}
	epoch := getenv("SOURCE_DATE_EPOCH")
	head, err := t.run("git", "log", "-1", "--format=%H %ct", "HEAD")
	switch {
	case err == nil:
		commit, seconds, _ := strings.Cut(strings.TrimSpace(head), " ")
		t.commit, epoch = commit, cmp.Or(epoch, seconds)
	case t.version == "" || epoch == "":
		return nil, fmt.Errorf("%w; outside of a repository set VERSION, such as 0.1.0, and SOURCE_DATE_EPOCH, in seconds", err)
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", epoch)
	}
	t.time = time.Unix(seconds, 0).UTC()
	if t.version == "" {
		status, err := t.run("git", "status", "--porcelain")
		if err != nil {
			return nil, err
		}
		// Fails where there is no tag yet.
		described, _ := t.run("git", "describe", "--tags", "--long", "--match", "v[0-9]*", "HEAD")
		if t.version, err = versionOf(strings.TrimSpace(described), t.commit, t.time, status != ""); err != nil {
			return nil, err
		}
	}
	if !debianVersion.MatchString(t.version) {
		return nil, fmt.Errorf("version %q: a Debian version begins with a digit and has letters, digits and . + ~ only", t.version)
	}
	return t, nil
}

// debianVersion is deb-version(7), without epoch and revision.
var debianVersion = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~]*$`)

// versionOf makes a version from what git describe --long says, "" for no tag:
// the tag itself; after it the tag with + and a time, which sorts behind it; before
// the first one firstVersion with ~, which sorts before. The time makes later
// commits newer. A tree with changes is marked.
func versionOf(described, commit string, at time.Time, changed bool) (string, error) {
	suffix := fmt.Sprintf("git%s.%.7s", at.Format("20060102150405"), commit)
	version := firstVersion + "~" + suffix
	if described != "" {
		m := regexp.MustCompile(`^v(.+)-([0-9]+)-g[0-9a-f]+$`).FindStringSubmatch(described)
		if m == nil {
			return "", fmt.Errorf("git describe said %q, which is no version", described)
		}
		// Of 1.0.0-rc1 and 1.0.0 the first is the older one.
		version = strings.ReplaceAll(m[1], "-", "~")
		if m[2] != "0" {
			version += "+" + suffix
		}
	}
	if changed {
		version += "+changed"
	}
	return version, nil
}

// file is a path in the tree.
func (t *tree) file(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

// run runs a program in the tree and returns what it wrote to stdout.
func (t *tree) run(program string, args ...string) (string, error) {
	return t.runWith(nil, program, args...)
}

func (t *tree) runWith(env []string, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("there is no program %s on this machine", program)
		}
		return "", fmt.Errorf("%s %.80s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// stamp is what the binary says of itself. Go's own stamp differs between a
// clone and a worktree, so it is left out.
func (t *tree) stamp() string {
	return fmt.Sprintf("-s -w -X main.release=%s -X main.commit=%s -X main.commitTime=%s", t.version, t.commit, t.time.Format(time.RFC3339))
}

// build makes labctl for a platform, static.
func (t *tree) build(p platform, out string) error {
	// Whatever the environment says, the bytes are the same.
	env := []string{"CGO_ENABLED=0", "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off",
		"GOOS=" + p.os, "GOARCH=" + p.arch, "GOARM=" + p.arm}
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	if _, err := t.runWith(env, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", t.stamp(), "-o", out, "./cmd/labctl"); err != nil {
		return fmt.Errorf("building labctl for %s: %w", p.name, err)
	}
	return nil
}

// native makes a labctl that runs here, to write what it knows of itself.
func (t *tree) native() (labctl string, done func(), err error) {
	dir, err := os.MkdirTemp("", "labctl-pack-")
	if err != nil {
		return "", nil, err
	}
	done = func() { os.RemoveAll(dir) }
	labctl = filepath.Join(dir, "labctl")
	if _, err = t.runWith([]string{"CGO_ENABLED=0", "GOFLAGS=", "GOOS=", "GOARCH="}, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", t.stamp(), "-o", labctl, "./cmd/labctl"); err != nil {
		done()
		return "", nil, fmt.Errorf("building labctl for this machine: %w", err)
	}
	return labctl, done, nil
}
