package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi/network"
	"github.com/labctl/labctl/esxi/vch"
)

// The tab key must neither wait nor ask: completion reads the config and the state
// folder, and nothing else. It asks no host, runs no password_command and takes no
// lock. What it knows of switches, port groups and VCHs is what the commands that
// look (net show, net plan, net apply, vch ls) saw last.

// seenFile is what was seen last, in seen.json in the state folder. It holds
// names only, and a stale one costs a refused command.
type seenFile struct {
	Version int                 `json:"version"`
	Hosts   map[string]seenHost `json:"hosts"`
	VCHs    map[string]string   `json:"vchs"` // name to where it runs
}

type seenHost struct {
	Standard          []string `json:"standard"`
	Distributed       []string `json:"distributed"`
	StandardGroups    []string `json:"standardGroups"`
	DistributedGroups []string `json:"distributedGroups"`
}

const seenName = "seen.json"

// seen returns an empty file where there is none, or none that can be read: it is
// written anew by the next look.
func (a *app) seen() *seenFile {
	var f seenFile
	if path, err := a.statePath(seenName); err == nil {
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &f) != nil {
			f = seenFile{}
		}
	}
	f.Version = 1
	if f.Hosts == nil {
		f.Hosts = map[string]seenHost{}
	}
	if f.VCHs == nil {
		f.VCHs = map[string]string{}
	}
	return &f
}

// remember changes the file. That it cannot is no reason to fail a command, and
// nothing that somebody who did not press the tab key should read of.
func (a *app) remember(change func(*seenFile)) {
	err := func() error {
		dir, err := a.stateDir("")
		if err != nil {
			return err
		}
		f := a.seen()
		change(f)
		b, err := json.Marshal(f)
		if err != nil {
			return err
		}
		tmp, err := os.CreateTemp(dir, ".seen-*") // 0600
		if err != nil {
			return err
		}
		_, err = tmp.Write(append(b, '\n'))
		if err = cmp.Or(err, tmp.Close()); err == nil {
			err = os.Rename(tmp.Name(), filepath.Join(dir, seenName))
		}
		if err != nil {
			os.Remove(tmp.Name())
		}
		return err
	}()
	if err != nil {
		a.log.Debug("nothing was kept for completion", "error", err)
	}
}

// saw keeps the names in a snapshot.
func (a *app) saw(host string, s *network.Snapshot) {
	var h seenHost
	for _, sw := range s.Standard {
		h.Standard = append(h.Standard, sw.Name)
		for _, g := range sw.PortGroups {
			h.StandardGroups = append(h.StandardGroups, g.Label)
		}
	}
	for _, sw := range s.Distributed {
		h.Distributed = append(h.Distributed, sw.Name)
		for _, g := range sw.PortGroups {
			if !g.Uplink {
				h.DistributedGroups = append(h.DistributedGroups, g.Name)
			}
		}
	}
	a.remember(func(f *seenFile) { f.Hosts[host] = h })
}

// sawVCHs keeps the names of all VCHs of a server.
func (a *app) sawVCHs(server string, list []vch.Entry) {
	a.remember(func(f *seenFile) {
		maps.DeleteFunc(f.VCHs, func(_, where string) bool { return where == server })
		for _, e := range list {
			f.VCHs[e.Name] = server
		}
	})
}

// completeVCHs offers those that were listed last, and those that labctl made
// from here.
func (a *app) completeVCHs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := map[string]bool{}
	for n := range a.seen().VCHs {
		names[n] = true
	}
	if base, err := a.baseDir("XDG_DATA_HOME", ".local/share"); err == nil {
		entries, _ := os.ReadDir(filepath.Join(base, "labctl", "vch"))
		for _, e := range entries {
			if e.IsDir() && vch.CheckName(e.Name()) == nil {
				names[e.Name()] = true
			}
		}
	}
	for _, n := range args {
		delete(names, n)
	}
	return slices.Sorted(maps.Keys(names)), cobra.ShellCompDirectiveNoFileComp
}

// completeFlags gives the flags that name things of the lab their words, in all
// commands below, where none were given yet.
func (a *app) completeFlags(c *cobra.Command) {
	groups := func(h seenHost) []string { return append(slices.Clone(h.StandardGroups), h.DistributedGroups...) }
	words := map[string]cobra.CompletionFunc{
		"host":     a.completeHosts,
		"keyboard": a.completeKeyboards,
		"layout":   completeLayouts,
		"switch":   a.fromSeen(func(_ *cobra.Command, h seenHost) []string { return h.Standard }),
		"dvs":      a.fromSeen(func(_ *cobra.Command, h seenHost) []string { return h.Distributed }),
		"portgroup": a.fromSeen(func(c *cobra.Command, h seenHost) []string {
			switch to := c.Flag("to"); {
			case to != nil && to.Value.String() == string(network.Standard):
				return h.StandardGroups
			case to != nil && to.Value.String() == string(network.Distributed):
				return h.DistributedGroups
			}
			return groups(h)
		}),
		"map": a.completeMap,
	}
	for _, role := range []string{"bridge", "public", "client", "management"} {
		words[role+"-network"] = a.fromSeen(func(_ *cobra.Command, h seenHost) []string { return groups(h) })
	}
	words["container-network"] = words["public-network"]
	for name, f := range words {
		if c.LocalFlags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, f) // fails where the command has words of its own
		}
	}
	for _, sub := range c.Commands() {
		a.completeFlags(sub)
	}
}

// fromSeen offers names of the host that the command line names, or of all.
func (a *app) fromSeen(pick func(*cobra.Command, seenHost) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, h := range a.seenHosts(c, args) {
			names = append(names, pick(c, h)...)
		}
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) seenHosts(c *cobra.Command, args []string) []seenHost {
	all := a.seen().Hosts
	name := first(args)
	if f := c.Flag("host"); f != nil && f.Value.String() != "" {
		name = f.Value.String()
	}
	if h, ok := all[name]; ok {
		return []seenHost{h}
	}
	return slices.Collect(maps.Values(all))
}

// completeMap offers the port groups of the side that is left, and after = those
// of the other.
func (a *app) completeMap(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	old, _, hasOld := strings.Cut(word, "=")
	var out []string
	for _, h := range a.seenHosts(c, args) {
		from, to := h.DistributedGroups, h.StandardGroups
		if c.Flag("to") != nil && c.Flag("to").Value.String() == string(network.Distributed) {
			from, to = to, from
		}
		if !hasOld {
			for _, n := range from {
				out = append(out, n+"=")
			}
			continue
		}
		for _, n := range to {
			out = append(out, old+"="+n)
		}
	}
	slices.Sort(out)
	directive := cobra.ShellCompDirectiveNoFileComp
	if !hasOld {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return slices.Compact(out), directive
}

// completeKeyboards offers the model, this machine's keyboard and those of the
// configured hosts.
func (a *app) completeKeyboards(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	out := []string{"sim:\ta simulated host's console", "/dev/hidg0\tthis machine as a USB keyboard"}
	if s, err := loadSettings(a.flags, a.env); err == nil {
		for _, h := range s.Hosts {
			if h.Keyboard != "" && h.Keyboard != "/dev/hidg0" {
				out = append(out, fmt.Sprintf("%s\tof %s", h.Keyboard, h.Name))
			}
			out = append(out, "vm://"+h.Name+"/\ta virtual machine on "+h.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// recipeFiles returns the files of recipes that a word may become.
func recipeFiles(word string) []string {
	dir, _ := filepath.Split(word)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if name := dir + e.Name(); strings.HasPrefix(name, word) && !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			out = append(out, name)
		}
	}
	return out
}
