// Pack builds what people install: Debian packages, and the binaries of a
// release with their checksums and a bill of materials. Two runs on the same
// commit give the same bytes, in whatever folder; all times are the commit's. It
// fails, with what was being built, where a program that it needs is missing or
// a linked module has no licence that it knows.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	out := flag.String("out", "dist", "`FOLDER` to write into")
	only := flag.String("only", "", "`TARGET` to build alone, such as arm64 or windows-amd64")
	flag.Parse()
	build := map[string]func(*tree, string, string) ([]string, error){"deb": debs, "release": release, "man": man}[flag.Arg(0)]
	if flag.NArg() != 1 || build == nil {
		fmt.Fprintln(os.Stderr, "usage: pack [flags] deb|release|man, in the module's folder")
		os.Exit(2)
	}
	files, err := func() ([]string, error) {
		t, err := readTree(".", os.Getenv)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(*out, 0o755); err != nil {
			return nil, err
		}
		return build(t, *out, *only)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
	slices.Sort(files)
	for _, f := range files {
		fmt.Println(f)
	}
}

// platform is what a binary runs on.
type platform struct {
	name     string // as its file has it
	os, arch string // as Go has them
	arm      string // GOARM
	debian   string // the architecture's name there, "" for no package
}

// platforms are in the order of the commonest first. Version 6 of ARM is that of
// the Zero and the first Pi; Raspberry Pi OS calls it armhf, as Debian does the
// newer version 7.
var platforms = []platform{
	{name: "linux-amd64", os: "linux", arch: "amd64", debian: "amd64"},
	{name: "linux-arm64", os: "linux", arch: "arm64", debian: "arm64"},
	{name: "linux-armv6", os: "linux", arch: "arm", arm: "6", debian: "armhf"},
	{name: "darwin-amd64", os: "darwin", arch: "amd64"},
	{name: "darwin-arm64", os: "darwin", arch: "arm64"},
	{name: "windows-amd64", os: "windows", arch: "amd64"},
}

// pick returns the platforms with a package, or all, or the one that only names.
func pick(only string, packages bool) ([]platform, error) {
	var names []string
	var picked []platform
	for _, p := range platforms {
		name := p.name
		if packages {
			name = p.debian
		}
		if name == "" {
			continue
		}
		names = append(names, name)
		if only == "" || only == name {
			picked = append(picked, p)
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("there is no target %s: there are %s", only, strings.Join(names, ", "))
	}
	return picked, nil
}

// man writes the manual pages, uncompressed.
func man(t *tree, out, _ string) ([]string, error) {
	if err := os.RemoveAll(out); err != nil { // pages of commands that are gone
		return nil, err
	}
	labctl, done, err := t.native()
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := t.run(labctl, "man", out); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(out, "*.1"))
}
