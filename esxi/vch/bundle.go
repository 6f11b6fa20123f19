package vch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Bundle is a folder with the two images of a VIC 1.5 release.
type Bundle struct {
	Dir                  string
	Version              BundleVersion
	Appliance, Bootstrap Image
}

// Image is one ISO file.
type Image struct {
	Path string // on this machine
	Size int64  // bytes
}

// BundleVersion is a release as its images name it: v1.5.8-0-2c978fe.
type BundleVersion struct{ Release, Build, Commit string }

func (v BundleVersion) String() string { return v.Release + "-" + v.Build + "-" + v.Commit }

// ParseBundleVersion reads RELEASE-BUILD-COMMIT.
func ParseBundleVersion(s string) (BundleVersion, error) {
	part := strings.Split(s, "-")
	if len(part) < 3 || !strings.HasPrefix(s, "v") || strings.ContainsAny(s, `/\[]"|`) {
		return BundleVersion{}, fmt.Errorf("%.40q is no version of the form v1.5.8-0-2c978fe", s)
	}
	n := len(part)
	v := BundleVersion{strings.Join(part[:n-2], "-"), part[n-2], part[n-1]}
	if v.Release == "" || v.Build == "" || v.Commit == "" {
		return BundleVersion{}, fmt.Errorf("%.40q is no version of the form v1.5.8-0-2c978fe", s)
	}
	return v, nil
}

// files returns what the images are called on the datastore.
func (v BundleVersion) files() (appliance, bootstrap string) {
	return v.String() + "-appliance.iso", v.String() + "-bootstrap.iso"
}

// BundleError says what is wrong with a bundle, and where.
type BundleError struct {
	Path string // folder or file
	Err  error
}

func (e *BundleError) Error() string { return fmt.Sprintf("bundle %s: %v", e.Path, e.Err) }
func (e *BundleError) Unwrap() error { return e.Err }

// OpenBundle finds the images in dir, by vic-machine's names or with a version
// before them, and reads their version. Images of different builds do not work
// together and are refused, as is a release other than 1.5. Every failure is a
// *BundleError.
func OpenBundle(dir string) (*Bundle, error) {
	fail := func(path string, err error) (*Bundle, error) {
		var at *os.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, &BundleError{path, err}
	}
	if dir == "" {
		return fail("(none)", errors.New("no folder with appliance.iso and bootstrap.iso is given"))
	}
	b := &Bundle{Dir: dir}
	var versions []BundleVersion
	for _, part := range []struct {
		name string
		into *Image
	}{{"appliance.iso", &b.Appliance}, {"bootstrap.iso", &b.Bootstrap}} {
		path, err := findImage(dir, part.name)
		if err != nil {
			return fail(dir, err)
		}
		version, size, err := readImage(path)
		if err != nil {
			return fail(path, err)
		}
		*part.into = Image{path, size}
		versions = append(versions, version)
	}
	if versions[0] != versions[1] {
		return fail(dir, fmt.Errorf("the appliance is %v and the bootstrap image %v: they belong to different builds", versions[0], versions[1]))
	}
	b.Version = versions[0]
	if !strings.HasPrefix(b.Version.Release, "v1.5.") {
		return fail(dir, fmt.Errorf("%v is not a 1.5 release, and others are configured differently", b.Version))
	}
	return b, nil
}

func findImage(dir, name string) (string, error) {
	if path := filepath.Join(dir, name); exists(path) {
		return path, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var hits []string
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && strings.HasPrefix(strings.ToLower(n), "v") && strings.HasSuffix(n, "-"+name) {
			hits = append(hits, n)
		}
	}
	switch len(hits) {
	case 0:
		return "", fmt.Errorf("neither %s nor V*-%s is in it", name, name)
	case 1:
		return filepath.Join(dir, hits[0]), nil
	}
	return "", fmt.Errorf("%s could be any of %s", name, strings.Join(hits, ", "))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Offsets of ECMA-119 (ISO 9660), section 8.4: the primary volume descriptor is
// the seventeenth sector of 2048 bytes.
const (
	descriptorAt   = 16 * 2048
	publisherAt    = 318
	publisherBytes = 128
)

// readImage returns the version and size of one image. The version is the last
// word of its publisher: VMware Inc. v1.5.8-0-2c978fe.
func readImage(path string) (BundleVersion, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return BundleVersion{}, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return BundleVersion{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return BundleVersion{}, 0, errors.New("not a file")
	}
	head := make([]byte, publisherAt+publisherBytes)
	if _, err := f.ReadAt(head, descriptorAt); errors.Is(err, io.EOF) {
		return BundleVersion{}, 0, fmt.Errorf("%d bytes are too few for an ISO image", info.Size())
	} else if err != nil {
		return BundleVersion{}, 0, err
	}
	if head[0] != 1 || string(head[1:6]) != "CD001" {
		return BundleVersion{}, 0, errors.New("not an ISO 9660 image")
	}
	words := strings.Fields(strings.TrimRight(string(head[publisherAt:]), "\x00 "))
	if len(words) == 0 {
		return BundleVersion{}, 0, errors.New("its publisher field holds no version")
	}
	v, err := ParseBundleVersion(words[len(words)-1])
	if err != nil {
		return BundleVersion{}, 0, fmt.Errorf("its publisher field: %w", err)
	}
	return v, info.Size(), nil
}
