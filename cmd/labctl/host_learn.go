package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
)

type hostLearnResult struct {
	Version int               `json:"version"`
	Host    string            `json:"host"`
	Via     string            `json:"via"` // vcenter or esxi
	Facts   []hostFact        `json:"facts"`
	Console map[string]string `json:"console"` // what recipes take from it from now on
	Unread  []hostUnread      `json:"unread"`
}

// hostFact is a stored fact in JSON.
type hostFact struct {
	Name   string    `json:"name"`
	Value  string    `json:"value"`
	Read   time.Time `json:"read"`
	Via    string    `json:"via"`
	Before string    `json:"before,omitempty"` // the value it had, where that has changed
}

type hostUnread struct {
	Fact string `json:"fact"`
	Why  string `json:"why"`
}

func (a *app) hostLearnCommand() *cobra.Command {
	var via string
	c := &cobra.Command{
		Use: "learn [HOST]", Short: "Read what its console depends on, while the API answers",
		Long: `Learn reads, through vCenter where one is configured, else from the host itself,
what decides how its console looks and what keys do there: version and build,
whether vCenter manages it, lockdown mode and who may log in all the same, where
each vmkernel adapter lives, uplinks and links, the console's time-out and
keyboard layout, shell and SSH, the model of the machine. It is kept on this
machine with the time of reading, for the night when no API answers.

recipe check, recipe run and dcui take it from there for --host; --fact and the
config come before it. What can have changed since is unknown again: shell and
SSH at once; on which kind of switch management is after a day, or as soon as
labctl itself begins to change the network. The rest are settings, which hold until
somebody changes them. Whether the console's lockdown item is dimmed the API does
not tell. net apply learns before it acts.`,
		Example:           "  labctl host learn nuc01",
		Args:              argsBetween(0, 1, "one host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target(first(args))
			if err != nil {
				return err
			}
			r, err := a.hostLearn(cmd.Context(), t, via)
			if err != nil {
				return err
			}
			if s, err := a.settings(); err == nil && slices.ContainsFunc(s.Hosts, func(h HostConf) bool { return h.Name == r.Host }) {
				a.next("what it is good for", "recipe", "check", "restore-standard-switch", "--host", r.Host)
			} else {
				a.next("to see its switches", "net", "show", r.Host)
			}
			return a.result(r, func(p *page) { writeLearned(p, r) })
		},
	}
	a.viaFlag(c, &via)
	return c
}

// hostLearn reads the host by the default path and, where none was demanded and
// vCenter does not answer or has lost the host, from the host itself.
func (a *app) hostLearn(ctx context.Context, t *target, via string) (*hostLearnResult, error) {
	e, name, err := t.path(via)
	if err != nil {
		return nil, err
	}
	facts, unread, err := a.readFacts(ctx, t, e)
	if unanswered(err) && ctx.Err() == nil && via == "" && name == "vcenter" && t.ESXi != nil {
		a.say("%s; asking the host itself", err)
		name = "esxi"
		facts, unread, err = a.readFacts(ctx, t, t.ESXi)
	}
	if err != nil {
		return nil, err
	}
	if t.Name == "" {
		t.Name = facts.Name
	}
	unlock, err := a.lock("host-"+t.Name, "host learn")
	if err != nil {
		return nil, err
	}
	defer unlock()
	f := a.learned(t.Name)
	before := map[string]string{}
	for n, fact := range f.Facts {
		before[n] = fact.Value
	}
	f.learn(facts, name, a.now())
	if err := a.keepFacts(f); err != nil {
		return nil, err
	}
	r := &hostLearnResult{Version: 1, Host: t.Name, Via: name, Facts: f.shown(before), Console: f.believe(a.now()).facts, Unread: []hostUnread{}}
	for _, u := range unread {
		fact := unreadNames[u.Fact]
		r.Unread = append(r.Unread, hostUnread{fact, u.Err.Error()})
		a.warn("%s was not read: %s", fact, u.Err)
	}
	a.sayConflicts(t, r)
	return r, nil
}

// unreadNames are the names under which facts are stored.
var unreadNames = map[string]string{
	"Lockdown": "lockdown", "Shell": "shell", "Management": "management",
	"DCUITimeout": factTimeout, "DCUIAccess": factAccess, "Layout": "layout",
}

// sayConflicts warns of what in the reading ends badly at the console one day.
func (a *app) sayConflicts(t *target, r *hostLearnResult) {
	configured := hostFacts(t.Host)
	for _, name := range []string{"layout", "esxi", "vcenter", "lockdown", "management"} {
		if have, learned := configured[name], r.Console[name]; have != "" && learned != "" && !sameFact(name, have, learned) {
			a.warn("the config says %s=%s, and the host has %s: correct the config, it comes first", name, have, learned)
		}
	}
	if r.Console["lockdown"] == "strict" {
		a.warn("in strict lockdown mode the console lets nobody in: no recipe can help this host")
	}
}

func (a *app) readFacts(ctx context.Context, t *target, e *esxi.Endpoint) (*esxi.Facts, []esxi.Unread, error) {
	c, err := esxi.Dial(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	defer a.logout(ctx, c)
	h, err := c.FindHost(ctx, t.wanted())
	if err != nil {
		return nil, nil, err
	}
	return c.ReadFacts(ctx, h)
}

// shown lists stored facts in order; before are values to compare with.
func (f *learnedFile) shown(before map[string]string) []hostFact {
	out := []hostFact{}
	for _, n := range f.names() {
		fact := f.Facts[n]
		h := hostFact{Name: n, Value: fact.Value, Read: fact.Read.Truncate(time.Second), Via: fact.Via}
		if old := before[n]; old != "" && old != fact.Value {
			h.Before = old
		}
		out = append(out, h)
	}
	return out
}

func writeLearned(p *page, r *hostLearnResult) {
	t := table{}
	t.row(bold, "host", r.Host+" via "+r.Via)
	for _, f := range r.Facts {
		look, value := plain, f.Value
		if f.Before != "" {
			look, value = yellow, fmt.Sprintf("%s (was %s)", f.Value, f.Before)
		}
		t.row(look, factLabel(f.Name), value)
	}
	t.write(p)
	p.printf("\nrecipes take from it: %s\n", dash(factWords(r.Console)))
}

// factLabel is how a fact is called in a table.
func factLabel(name string) string { return strings.ReplaceAll(name, "_", " ") }

// writeFacts shows stored facts with their ages.
func writeFacts(p *page, facts []hostFact, now time.Time) {
	if len(facts) == 0 {
		return
	}
	p.printf("\n")
	t := table{header: []string{"LEARNED", "VALUE", "AGE", "VIA"}}
	for _, f := range facts {
		t.row(plain, factLabel(f.Name), f.Value, ageWords(now.Sub(f.Read)), f.Via)
	}
	t.write(p)
}
