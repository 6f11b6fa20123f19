package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/internal/skipped"
)

// Versions sort as the commits do: dpkg itself is the judge.
func TestVersions(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, 2, day, hour, 0, 0, 0, time.UTC) }
	const a, b = "ffffffffffff", "000000000000"
	var got []string
	for _, c := range []struct {
		described string
		commit    string
		at        time.Time
		changed   bool
	}{
		{"", a, at(1, 1), false},
		{"", b, at(1, 2), false},
		{"", b, at(1, 2), true},
		{"", a, at(3, 0), false},
		{"v0.1.0-rc1-0-gabc", a, at(4, 0), false},
		{"v0.1.0-0-gabc", b, at(5, 0), false},
		{"v0.1.0-3-gabc", a, at(6, 0), false},
		{"v0.1.0-11-gabc", b, at(7, 0), false},
		{"v0.1.1-0-gabc", a, at(8, 0), false},
	} {
		v, err := versionOf(c.described, c.commit, c.at, c.changed)
		if err != nil || !debianVersion.MatchString(v) {
			t.Fatalf("%+v: %q, %v", c, v, err)
		}
		got = append(got, v)
	}
	if got[0] != "0.1.0~git20260201010000.fffffff" || got[5] != "0.1.0" {
		t.Errorf("got %q", got)
	}
	if _, err := versionOf("nonsense", a, at(1, 1), false); err == nil {
		t.Error("nonsense is a version")
	}
	skipped.Without(t, "dpkg", "dpkg")
	// Release candidates are tagged before any commit is packed as 0.1.0~git, or never.
	for i := 1; i < len(got); i++ {
		if i == 4 {
			continue
		}
		older := got[i-1]
		if i == 5 {
			older = got[3]
		}
		if err := exec.Command("dpkg", "--compare-versions", older+revision, "lt", got[i]+revision).Run(); err != nil {
			t.Errorf("%s is not older than %s", older, got[i])
		}
	}
}

// Outside of a repository two variables say what git would.
func TestReadTree(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
	env := map[string]string{}
	get := func(name string) string { return env[name] }
	if _, err := readTree(dir, get); err == nil || !strings.Contains(err.Error(), "set VERSION, such as 0.1.0, and SOURCE_DATE_EPOCH") {
		t.Errorf("got %v", err)
	}
	env["VERSION"], env["SOURCE_DATE_EPOCH"] = "1.2", "soon"
	if _, err := readTree(dir, get); err == nil || !strings.Contains(err.Error(), `SOURCE_DATE_EPOCH "soon"`) {
		t.Errorf("got %v", err)
	}
	env["SOURCE_DATE_EPOCH"] = "86400"
	if tr, err := readTree(dir, get); err != nil || tr.version != "1.2" || !tr.time.Equal(time.Unix(86400, 0)) {
		t.Errorf("got %+v, %v", tr, err)
	}
	env["VERSION"] = "v1.2"
	if _, err := readTree(dir, get); err == nil || !strings.Contains(err.Error(), `version "v1.2"`) {
		t.Errorf("got %v", err)
	}
}

// go install refuses a module whose go.mod replaces or excludes others.
func TestGoInstallable(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) > 0 && slices.Contains([]string{"replace", "exclude"}, strings.TrimSuffix(f[0], "(")) {
			t.Errorf("go.mod: %s", line)
		}
	}
	if _, err := os.Stat("../../vendor"); err == nil {
		t.Error("go install ignores the folder vendor")
	}
}

// A licence that nobody read stops the build; those that are known are told apart.
func TestLicences(t *testing.T) {
	read := func(text, notice string) (licence, error) {
		t.Helper()
		dir := t.TempDir()
		for name, s := range map[string]string{"LICENSE.txt": text, "NOTICE": notice} {
			if s != "" {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		return readLicence(dir)
	}
	l, err := read("Copyright (c) 2001 Anna\n\nPermission is hereby granted, free of\ncharge, to any person obtaining a copy", "Thanks to Bert")
	if err != nil || l.spdx != "MIT" || !slices.Equal(l.copyrights, []string{"Copyright (c) 2001 Anna"}) || !strings.Contains(l.notice, "Bert") {
		t.Errorf("got %+v, %v", l, err)
	}
	if _, err := read("All rights reserved, run away", ""); err == nil || !strings.Contains(err.Error(), "add it to marks") {
		t.Errorf("got %v", err)
	}
	if _, err := read("", ""); err == nil {
		t.Error("no licence passed")
	}
	tr := &tree{dir: "../.."}
	if all, err := tr.licencesOf([]*debug.Module{{Path: "github.com/spf13/cobra"}, {Path: "github.com/spf13/pflag"}}); err != nil ||
		all["github.com/spf13/cobra"].spdx != "Apache-2.0" || all["github.com/spf13/pflag"].spdx != "BSD-3-Clause" {
		t.Errorf("got %+v, %v", all, err)
	}
}
