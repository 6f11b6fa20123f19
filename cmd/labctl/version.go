package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionResult is what version -o json prints. The version field is the
// format's; labctl's own is called release.
type versionResult struct {
	Version  int               `json:"version"`
	Release  string            `json:"release"`
	Commit   string            `json:"commit,omitempty"`
	Modified bool              `json:"modified"` // built from a tree with changes
	Time     string            `json:"time,omitempty"`
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	Modules  map[string]string `json:"modules"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "What this labctl was built from",
		Long:    "Version prints the release, the commit, the Go version and the vSphere library\nthat this binary was built from. It reads no config and no network.",
		Example: "  labctl version -o json",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			return a.result(v, func(p *page) {
				t := table{}
				t.row(bold, "labctl", v.Release)
				if v.Commit != "" {
					dirty := ""
					if v.Modified {
						dirty = " with changes"
					}
					t.row(plain, "commit", v.Commit+dirty)
					t.row(plain, "of", v.Time)
				}
				t.row(plain, "go", v.Go)
				t.row(plain, "platform", v.Platform)
				t.row(plain, "govmomi", v.Modules[govmomiPath])
				t.write(p)
			})
		},
	}
}

// What make deb and make release say of the source: they also build outside of a
// repository that Go can read, such as a worktree. Where they are empty, it is
// what Go has found out.
var release, commit, commitTime string

const govmomiPath = "github.com/vmware/govmomi"

func buildVersion() versionResult {
	v := versionResult{
		Version: 1, Release: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Release = cmp.Or(release, info.Main.Version)
	v.Commit, v.Time = commit, commitTime
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = cmp.Or(commit, s.Value)
		case "vcs.time":
			v.Time = cmp.Or(commitTime, s.Value)
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, m := range info.Deps {
		if m.Path == govmomiPath {
			if m.Replace != nil {
				m = m.Replace
			}
			v.Modules[govmomiPath] = m.Version
		}
	}
	return v
}
