package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// release writes a static binary per platform, a bill of materials of them all,
// and the checksums of everything.
func release(t *tree, out, only string) ([]string, error) {
	targets, err := pick(only, false)
	if err != nil {
		return nil, err
	}
	// A tilde is no name for a download.
	prefix := filepath.Join(out, "labctl-"+strings.ReplaceAll(t.version, "~", "-"))
	var files []string
	for _, p := range targets {
		name := prefix + "-" + p.name
		if p.os == "windows" {
			name += ".exe"
		}
		if err := t.build(p, name); err != nil {
			return nil, err
		}
		files = append(files, name)
	}
	bom, err := t.materials(files)
	if err != nil {
		return nil, err
	}
	files = append(files, prefix+".cdx.json")
	if err := os.WriteFile(files[len(files)-1], bom, 0o644); err != nil {
		return nil, err
	}
	slices.Sort(files)
	var sums bytes.Buffer
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), filepath.Base(f))
	}
	files = append(files, filepath.Join(out, "SHA256SUMS"))
	return files, os.WriteFile(files[len(files)-1], sums.Bytes(), 0o644)
}

// bill is a bill of materials in CycloneDX 1.5
// (https://cyclonedx.org/docs/1.5/json/), as far as labctl needs the format.
type bill struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"` // the commit's
	Component component `json:"component"`
}

type component struct {
	Type       string          `json:"type"`
	Ref        string          `json:"bom-ref"`
	Name       string          `json:"name"`
	Version    string          `json:"version"`
	URL        string          `json:"purl"` // https://github.com/package-url/purl-spec
	Licences   []licenceChoice `json:"licenses,omitempty"`
	Properties []property      `json:"properties,omitempty"`
}

type licenceChoice struct {
	Expression string `json:"expression"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn,omitempty"`
}

// materials reads from the binaries what they are made of. What only some hold,
// says which.
func (t *tree) materials(binaries []string) ([]byte, error) {
	type use struct {
		component
		in []string
	}
	uses := map[string]*use{}
	for _, f := range binaries {
		modules, goVersion, err := linked(f)
		if err != nil {
			return nil, err
		}
		licences, err := t.licencesOf(modules)
		if err != nil {
			return nil, err
		}
		add := func(path, version, spdx string) {
			ref := "pkg:golang/" + path + "@" + version
			u := uses[ref]
			if u == nil {
				u = &use{component: component{Type: "library", Ref: ref, Name: path, Version: version, URL: ref, Licences: []licenceChoice{{spdx}}}}
				uses[ref] = u
			}
			u.in = append(u.in, filepath.Base(f))
		}
		add("std", strings.TrimPrefix(goVersion, "go"), "BSD-3-Clause")
		for _, m := range modules {
			add(m.Path, m.Version, licences[m.Path].spdx)
		}
	}
	own := "pkg:golang/github.com/labctl/labctl@" + t.version
	b := bill{
		Format: "CycloneDX", Spec: "1.5", Version: 1,
		Metadata: metadata{t.time.Format(time.RFC3339), component{
			Type: "application", Ref: own, Name: "labctl", Version: t.version, URL: own, Licences: []licenceChoice{{"Apache-2.0"}},
		}},
		Dependencies: []dependency{{Ref: own}},
	}
	if t.commit != "" {
		b.Metadata.Component.Properties = []property{{"labctl:commit", t.commit}}
	}
	for _, ref := range slices.Sorted(maps.Keys(uses)) {
		u := uses[ref]
		if len(u.in) < len(binaries) {
			slices.Sort(u.in)
			for _, f := range u.in {
				u.Properties = append(u.Properties, property{"labctl:only-in", f})
			}
		}
		b.Components = append(b.Components, u.component)
		b.Dependencies[0].On = append(b.Dependencies[0].On, ref)
	}
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}
