package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes/dcui"
)

// learnedFile is what is known of one host, each fact with the time at which it
// was read. It lies in facts/HOST.json below the state folder and never holds a
// secret.
type learnedFile struct {
	Version int                    `json:"version"`
	Host    string                 `json:"host"`
	Facts   map[string]learnedFact `json:"facts"`
	// When labctl last began to change the host's network, and with which command: what
	// was read before that need not hold any more.
	Acted   time.Time `json:"acted,omitzero"`
	ActedBy string    `json:"actedBy,omitempty"`
}

type learnedFact struct {
	Value string    `json:"value"`
	Read  time.Time `json:"read"`
	Via   string    `json:"via"` // vcenter, esxi, or what else told it
}

// The names of stored facts. Those that the console's model has too go by its
// names: lockdown, layout, shell, ssh, management, and what a rehearsal saw.
const (
	factVersion   = "version"
	factManagedBy = "managed_by"
	factTimeout   = "dcui_timeout" // seconds, 0: never
	factAccess    = "dcui_access"
)

// factOrder is the order in which facts are shown; others follow by name.
var factOrder = []string{
	factVersion, "build", "vendor", "model", factManagedBy, "management", "lockdown", factAccess, factTimeout, "layout", "shell", "ssh",
}

// neverKept are facts that are unknown again as soon as they were read: anybody
// at the console or in a client turns them on and off, the host does by itself
// when a time-out passes, and nobody sees the lock light or the screen.
var neverKept = []string{"shell", "ssh", "screen", "caps"}

// placeKept is how long after its reading it is believed on which kind of switch
// management is, and only while labctl itself has not begun to change the
// network since. A recipe that takes a standard switch for a distributed one confirms
// the wrong item of Network Restore Options, and that wipes the network.
const placeKept = 24 * time.Hour

// factsOld is from when on doctor asks for a new reading. Nothing that is kept
// changes by itself, but people upgrade hosts.
const factsOld = 30 * 24 * time.Hour

// factsPath is where the facts of a host lie.
func (a *app) factsPath(host string) (string, error) {
	dir, err := a.statePath("facts")
	return filepath.Join(dir, strings.TrimSuffix(lockFile(host), ".lock")+".json"), err
}

// learned gives what is known of a host. A file that cannot be read is a warning
// and no facts: they help, and nothing fails for want of them.
func (a *app) learned(host string) *learnedFile {
	f, err := a.readLearned(host)
	if err != nil {
		a.warn("%s; nothing is taken from there until labctl host learn %s writes it anew", err, host)
		return &learnedFile{Version: 1, Host: host, Facts: map[string]learnedFact{}}
	}
	return f
}

// readLearned reads the stored facts of a host; none are an empty file.
func (a *app) readLearned(host string) (*learnedFile, error) {
	f := &learnedFile{}
	path, err := a.factsPath(host)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Version = 1
	case err != nil:
		return nil, fmt.Errorf("read the facts of %s: %w", host, err)
	default:
		if err := json.Unmarshal(b, f); err != nil {
			return nil, fmt.Errorf("read the facts of %s: %s: %w", host, path, err)
		}
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("read the facts of %s: %s is of format %d, and this labctl knows 1", host, path, f.Version)
	}
	if f.Facts == nil {
		f.Facts = map[string]learnedFact{}
	}
	f.Host = host
	return f, nil
}

// keepFacts writes the file whole or not at all.
func (a *app) keepFacts(f *learnedFile) error {
	dir, err := a.stateDir("facts")
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write the facts of %s: %w", f.Host, err)
	}
	path, err := a.factsPath(f.Host)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("write the facts of %s: %w", f.Host, err)
	}
	_, err = tmp.Write(append(b, '\n'))
	if err = cmp.Or(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("write the facts of %s: %w", f.Host, err)
	}
	return nil
}

// learn takes facts over. A fact that this reading does not tell keeps its
// value and its age, but adapters are as read or gone.
func (f *learnedFile) learn(facts *esxi.Facts, via string, now time.Time) {
	now = now.UTC()
	maps.DeleteFunc(f.Facts, func(name string, _ learnedFact) bool {
		return strings.HasPrefix(name, "vmkernel ") && facts.VMKernels != nil || strings.HasPrefix(name, "uplink ") && facts.Uplinks != nil
	})
	for name, value := range factValues(facts) {
		f.Facts[name] = learnedFact{Value: value, Read: now, Via: via}
	}
}

// factValues gives the facts that are known, by name.
func factValues(facts *esxi.Facts) map[string]string {
	out := map[string]string{
		factVersion: facts.Version, "build": facts.Build, "vendor": facts.Vendor, "model": facts.Model,
		factManagedBy: facts.ManagedBy, "management": facts.Management, "lockdown": facts.Lockdown,
		factTimeout: facts.DCUITimeout, "layout": facts.Layout, "shell": facts.Shell, "ssh": facts.SSH,
	}
	if facts.DCUIAccess != nil {
		out[factAccess] = cmp.Or(strings.Join(facts.DCUIAccess, " "), "nobody")
	}
	for _, k := range facts.VMKernels {
		words := []string{cmp.Or(k.IP, "no address"), "on", k.Kind, k.Switch}
		if k.PortGroup != "" {
			words = append(words, strconv.Quote(k.PortGroup))
		}
		if k.Management {
			words = append(words, "(management)")
		}
		out["vmkernel "+k.Device] = strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
	}
	for _, u := range facts.Uplinks {
		link := "no link"
		if u.Mbps > 0 {
			link = strconv.Itoa(u.Mbps) + " Mb/s"
		}
		if u.Switch != "" {
			link += ", " + u.Kind + " " + u.Switch
		} else if u.Kind == "" {
			link += ", free"
		}
		out["uplink "+u.Device] = link
	}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

// names lists the facts in the order in which they are shown.
func (f *learnedFile) names() []string {
	names := slices.Collect(maps.Keys(f.Facts))
	rank := func(n string) int {
		if i := slices.Index(factOrder, n); i >= 0 {
			return i
		}
		return len(factOrder)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(rank(x)-rank(y), strings.Compare(x, y)) })
	return names
}

// believed is what learned facts say of a console today.
type believed struct {
	facts  map[string]string // by the names of the console's model
	open   []string          // learned once, unknown again: name (why)
	moved  string            // the command that acted on the network since the place of management was read; "" for none
	oldest time.Duration     // age of the oldest of facts
	newest time.Duration
	idle   time.Duration // the console's time-out; 0 is not known
}

// believe applies the rule of what can have changed since it was read: settings
// hold until somebody changes them on purpose, the place of management holds
// for a day and until labctl acts, states never hold.
func (f *learnedFile) believe(now time.Time) believed {
	b := believed{facts: map[string]string{}}
	if !f.Acted.IsZero() && f.Facts["management"].Read.Before(f.Acted) {
		b.moved = cmp.Or(f.ActedBy, "labctl")
	}
	names := dcui.FactNames()
	for _, name := range f.names() {
		fact := f.Facts[name]
		age := max(0, now.Sub(fact.Read))
		as, value := name, fact.Value
		switch name {
		case factVersion:
			as, value = "esxi", majorMinor(fact.Value)
			if value != "" && !slices.Contains(dcui.FactValues("esxi"), value) {
				b.open = append(b.open, fmt.Sprintf("esxi (nothing is known of the console of %s)", value))
				continue
			}
		case factManagedBy:
			as, value = "vcenter", "yes"
			if fact.Value == "none" {
				value = "no"
			}
		case "layout":
			l, err := findLayout(fact.Value)
			if err != nil {
				b.open = append(b.open, fmt.Sprintf("layout (%q is no layout that labctl knows)", fact.Value))
				continue
			}
			value = l.Short()
		case factTimeout:
			if n, err := strconv.Atoi(fact.Value); err == nil && n >= 0 {
				b.idle = time.Duration(n) * time.Second
				if n == 0 {
					b.idle = never
				}
			}
			continue
		}
		switch {
		case !slices.Contains(names, as):
			continue
		case slices.Contains(neverKept, as):
			b.open = append(b.open, fmt.Sprintf("%s (was %s %s ago)", as, value, ageWords(age)))
			continue
		case as == "management" && b.moved != "":
			b.open = append(b.open, fmt.Sprintf("management (was %s, and %s has acted since)", value, b.moved))
			continue
		case as == "management" && age > placeKept:
			b.open = append(b.open, fmt.Sprintf("management (was %s %s ago)", value, ageWords(age)))
			continue
		case checkFacts(map[string]string{as: value}) != nil:
			continue // of another release, or edited by hand
		}
		if len(b.facts) == 0 || age < b.newest {
			b.newest = age
		}
		b.facts[as] = value
		b.oldest = max(b.oldest, age)
	}
	return b
}

// never stands for the time-out of a console that has none.
const never = 24 * time.Hour

// majorMinor cuts 6.7.0 to 6.7, by which the console's model goes.
func majorMinor(version string) string {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

// ageWords says how long ago something was, in the one unit that matters.
func ageWords(d time.Duration) string {
	n, unit := int(d/(24*time.Hour)), "day"
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		n, unit = int(d/time.Minute), "minute"
	case d < 48*time.Hour:
		n, unit = int(d/time.Hour), "hour"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// knownFacts gives what is known of a configured host's console: what was
// learned, and over it what its entry in the config says. How old the learned
// ones are is said on stderr.
func (a *app) knownFacts(h *HostConf) (facts map[string]string, idle time.Duration, err error) {
	configured := hostFacts(h)
	if err := checkFacts(configured); err != nil {
		return nil, 0, fmt.Errorf("host %s in the config: %w", h.Name, err)
	}
	b := a.learned(h.Name).believe(a.now())
	a.sayLearned(h.Name, b, configured)
	return mergeFacts(b.facts, configured), b.idle, nil
}

// learnedIdle is the console's time-out of the host that --host names; 0 is not
// known.
func (a *app) learnedIdle(cmd *cobra.Command) (time.Duration, error) {
	name := cmd.Flag("host").Value.String()
	if name == "" {
		return 0, nil
	}
	h, err := a.configuredHost(name)
	if err != nil {
		return 0, err
	}
	f, err := a.readLearned(h.Name)
	if err != nil {
		return 0, nil // consoleFacts has warned
	}
	return f.believe(a.now()).idle, nil
}

// sayLearned tells which facts come from an earlier reading, once a run.
func (a *app) sayLearned(host string, b believed, configured map[string]string) {
	if a.saidFacts == host {
		return
	}
	a.saidFacts = host
	used := map[string]string{}
	for name, value := range b.facts {
		have, given := configured[name]
		switch {
		case !given:
			used[name] = value
		case !sameFact(name, have, value):
			a.warn("%s: the config says %s=%s, and %s=%s was learned: the config holds", host, name, have, name, value)
		}
	}
	if m := configured["management"]; m != "" && b.moved != "" {
		a.warn("%s: the config says management=%s, and %s has acted on the network: is it so still? labctl host learn %s reads it", host, m, b.moved, host)
	}
	if len(used) > 0 {
		age := ageWords(b.oldest)
		if newest := ageWords(b.newest); newest != age {
			age = newest + " to " + age
		}
		a.say("%s: learned %s ago: %s", host, age, factWords(used))
	}
	open := slices.DeleteFunc(slices.Clone(b.open), func(o string) bool {
		name, _, _ := strings.Cut(o, " ")
		return configured[name] != ""
	})
	if len(open) > 0 {
		a.say("%s: unknown again: %s", host, strings.Join(open, ", "))
	}
}

// sameFact compares two values of a fact; a layout has several names.
func sameFact(name, x, y string) bool {
	if name == "layout" {
		lx, errX := findLayout(x)
		ly, errY := findLayout(y)
		return errX == nil && errY == nil && lx.Short() == ly.Short()
	}
	return x == y
}

// acting notes that labctl is about to change a host. Facts that the change can
// make wrong are not believed from then on, also when the run is killed.
// effects are what it may do.
func (a *app) acting(host, command string, effects ...dcui.Effect) error {
	f := a.learned(host)
	for _, e := range effects {
		switch e {
		case dcui.NetworkChanged, dcui.DistributedRestored, dcui.StandardRestored, dcui.NetworkWiped, dcui.ShellCommand:
			f.Acted, f.ActedBy = a.now().UTC(), command
		case dcui.SettingsChanged:
			delete(f.Facts, "layout")
			delete(f.Facts, factTimeout)
		case dcui.LockdownOn, dcui.LockdownOff:
			delete(f.Facts, "lockdown")
		case dcui.SystemReset:
			maps.DeleteFunc(f.Facts, func(name string, _ learnedFact) bool {
				return !slices.Contains([]string{factVersion, "build", "vendor", "model"}, name)
			})
		}
	}
	return a.keepFacts(f)
}

// learnAlong keeps what a command has read anyway. That it cannot be kept is no
// reason to fail the command.
func (a *app) learnAlong(host, via string, facts *esxi.Facts) {
	if facts == nil || via == "vcenter" && facts.State != "connected" {
		return
	}
	f := a.learned(host)
	f.learn(facts, via, a.now())
	if err := a.keepFacts(f); err != nil {
		a.warn("nothing was learned of %s: %s", host, err)
	}
}

// learnPlace keeps on which kind of switch management is, after a change that a
// re-read has proved, or whose answer leaves no other. The adapters of before are
// dropped.
func (a *app) learnPlace(host, via, kind string) {
	f := a.learned(host)
	maps.DeleteFunc(f.Facts, func(name string, _ learnedFact) bool {
		return strings.HasPrefix(name, "vmkernel ") || strings.HasPrefix(name, "uplink ")
	})
	f.Facts["management"] = learnedFact{Value: kind, Read: a.now().UTC(), Via: via}
	if err := a.keepFacts(f); err != nil {
		a.warn("nothing was learned of %s: %s", host, err)
	}
}
