package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// linked returns the modules that a binary is made of, by path, and Go's version.
func linked(binary string) ([]*debug.Module, string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, "", err
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, "", fmt.Errorf("%s is replaced by %s: nobody could install that from the module proxy", m.Path, m.Replace.Path)
		}
	}
	return info.Deps, info.GoVersion, nil
}

// licence is what a module may be passed on under.
type licence struct {
	spdx       string // https://spdx.org/licenses/
	text       string
	notice     string // that the licence wants kept
	copyrights []string
}

// marks tell licences apart by a passage that no other has.
var marks = []struct{ spdx, passage string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"Apache-2.0", "Licensed under the Apache License, Version 2.0"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"BSD-3-Clause", "Neither the name of"},
	{"MPL-2.0", "Mozilla Public License Version 2.0"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software"},
}

// licencesOf reads the licences of modules from where go keeps their source.
func (t *tree) licencesOf(modules []*debug.Module) (map[string]licence, error) {
	args := []string{"list", "-m", "-json"}
	for _, m := range modules {
		args = append(args, m.Path)
	}
	out, err := t.run("go", args...)
	if err != nil {
		return nil, err
	}
	all := map[string]licence{}
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		l, err := readLicence(m.Dir)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", m.Path, err)
		}
		all[m.Path] = l
	}
	return all, nil
}

func readLicence(dir string) (licence, error) {
	var l licence
	entries, err := os.ReadDir(dir)
	if err != nil {
		return l, err
	}
	for _, e := range entries {
		var to *string
		switch strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".txt"), ".md")) {
		case "LICENSE", "LICENCE", "COPYING":
			to = &l.text
		case "NOTICE":
			to = &l.notice
		}
		if to == nil || e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return l, err
		}
		*to += string(b) + "\n"
	}
	if l.text == "" {
		return l, errors.New("it has no file with a licence")
	}
	one := strings.Join(strings.Fields(l.text), " ")
	var found []string
	for _, m := range marks {
		if strings.Contains(one, m.passage) && !slices.Contains(found, m.spdx) {
			found = append(found, m.spdx)
		}
	}
	if len(found) == 0 {
		return l, errors.New("its licence is none that pack knows: read it, and add it to marks")
	}
	// A file with several texts has parts under each.
	l.spdx = strings.Join(found, " AND ")
	for line := range strings.Lines(l.text) {
		if line = strings.TrimSpace(line); copyrightLine.MatchString(line) && !slices.Contains(l.copyrights, line) {
			l.copyrights = append(l.copyrights, line)
		}
	}
	if len(l.copyrights) == 0 { // that of Apache is a text without a name
		l.copyrights = []string{"the authors of " + filepath.Base(dir)}
	}
	return l, nil
}

// copyrightLine is a notice, and not a sentence about notices.
var copyrightLine = regexp.MustCompile(`^(Copyright|©).*[0-9]{4}`)

// apache is printed once: Debian keeps the text on every system.
const apache = "On Debian systems the text of the Apache License, version 2.0, is in\n/usr/share/common-licenses/Apache-2.0."

// copyright is the package's copyright file: labctl's own licence, that of the
// keyboard layouts' source, and those of all that is linked in.
// (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/)
func (t *tree) copyright() ([]byte, error) {
	labctl, done, err := t.native()
	if err != nil {
		return nil, err
	}
	defer done()
	modules, _, err := linked(labctl)
	if err != nil {
		return nil, err
	}
	licences, err := t.licencesOf(modules)
	if err != nil {
		return nil, err
	}
	goroot, err := t.run("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goLicence, err := goLicence(strings.TrimSpace(goroot))
	if err != nil {
		return nil, err
	}
	layouts, err := os.ReadFile(t.file("hid/xkeyboard-config.copyright"))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n" +
		"Upstream-Name: labctl\nSource: https://github.com/labctl/labctl\n" +
		"Comment:\n The program is linked statically, so that it holds the modules below\n as well as its own source.\n")
	stanza := func(files string, l licence) {
		name := map[string]string{"MIT": "Expat", "BSD-3-Clause": "BSD-3-clause"}[l.spdx]
		if name == "" {
			name = strings.ReplaceAll(strings.ReplaceAll(l.spdx, " AND ", " and "), "MIT", "Expat")
		}
		text := l.text
		if l.spdx == "Apache-2.0" {
			text = apache
		}
		if l.notice != "" {
			text += "\n\n" + l.notice
		}
		fmt.Fprintf(&b, "\nFiles: %s\nCopyright:\n%sLicense: %s\n%s", files, indent(strings.Join(l.copyrights, "\n")), name, indent(text))
	}
	stanza("*", licence{spdx: "Apache-2.0", copyrights: []string{fmt.Sprintf("%d the authors of labctl", t.time.Year())}})
	stanza("hid/layouts_gen.go", licence{spdx: "xkeyboard-config", text: string(layouts), copyrights: []string{"the authors of xkeyboard-config, named in the text"}})
	stanza("src/*", goLicence)
	for _, m := range modules {
		stanza(m.Path+"/*", licences[m.Path])
	}
	return []byte(b.String()), nil
}

// goLicence is that of the standard library. Debian's package of Go has it under
// another name.
func goLicence(goroot string) (licence, error) {
	if l, err := readLicence(goroot); err == nil {
		return l, nil
	}
	matches, err := filepath.Glob("/usr/share/doc/golang-*-go/copyright")
	if err != nil || len(matches) == 0 {
		return licence{}, errors.New("Go's own LICENSE is not in GOROOT")
	}
	text, err := os.ReadFile(matches[0])
	return licence{spdx: "BSD-3-Clause", text: string(text), copyrights: []string{"2009 The Go Authors"}}, err
}
