package dcui

import (
	"math/bits"
	"strings"
)

// A simulated host runs a World as its console: what keys did becomes the way
// the host is, and the host changes by other ways than its console too.

// Settle gives the world of a host on which what the keys did is over: its
// facts are as they have become, except for those given, and its effects begin
// anew. The console stays where it stands, so the fact screen cannot be given;
// a name or value that is no fact is a *FactError.
func (w World) Settle(facts map[string]string) (World, error) {
	given, err := parseFacts(facts)
	if err != nil {
		return w, err
	}
	next := w
	for f := range factScreen {
		if given.get(f) != f.all() {
			next.facts = next.facts.with(f, given.get(f))
			continue
		}
		if value, ok := w.Now(factTable[f].name); ok {
			_, bit, err := valueBit(factTable[f].name, value)
			if err != nil {
				return w, err
			}
			next.facts = next.facts.with(f, bit)
		}
	}
	switch {
	case w.mgmtNow == 0:
	case w.mgmtSeen == w.mgmtNow:
		next.mgmtSeen = 0
	case w.mgmtSeen == 0:
		// The menu goes on showing what was there at the login.
		next.mgmtSeen = uint8(bits.TrailingZeros64(usual(factManagement, w.facts.get(factManagement)))) + 1
	}
	next.mgmtNow, next.lockNow, next.layoutNow, next.effects = 0, 0, 0, 0
	next.flags &^= shellFlipped | sshFlipped | capsFlipped | capsCleared
	return next, nil
}

// Booted gives the world of a host that has just started: nobody is logged in,
// the welcome screen shows, and the lock lights are out.
func (w World) Booted() World {
	next, _ := w.Settle(map[string]string{"caps": "off"}) // a fact's own value cannot fail
	next.boot(welcome)
	next.flags &^= numLock | scrollLock | contrast
	return next
}

// RootPassword gives the password of root as it is after the keys so far, for
// a simulator whose API asks for the same one.
func (w World) RootPassword() string { return w.root }

// Confirmed tells what a confirm of the management network has changed since
// before, by these names: adapters (those that are marked, with commas), vlan;
// ipv4 (off, dhcp or static) with address, netmask and gateway; dns1, dns2 and
// hostname, empty where they are obtained automatically; suffixes. IPv6 is not
// told. Of a dialog that is as it was nothing is there.
func (w World) Confirmed(before World) map[string]string {
	changed := map[string]string{}
	for i, p := range mgmtForms {
		was, is := part(orFresh(before.applied), formEnd, i), part(orFresh(w.applied), formEnd, i)
		if was == is {
			continue
		}
		value := func(field int) string { return part(is, fieldEnd, field) }
		switch p {
		case adapters:
			var marks []string
			for j, f := range forms[adapters] {
				if value(j) != "" {
					name, _, _ := strings.Cut(f.label, " ")
					marks = append(marks, name)
				}
			}
			changed["adapters"] = strings.Join(marks, ",")
		case vlan:
			changed["vlan"] = value(0)
		case ipv4:
			switch {
			case value(0) != "":
				changed["ipv4"] = "off"
			case value(1) != "":
				changed["ipv4"] = "dhcp"
			default:
				changed["ipv4"] = "static"
				changed["address"], changed["netmask"], changed["gateway"] = value(3), value(4), value(5)
			}
		case dns:
			for j, name := range []string{"dns1", "dns2", "hostname"} {
				changed[name] = ""
				if value(0) == "" {
					changed[name] = value(2 + j)
				}
			}
		case suffixes:
			changed["suffixes"] = value(0)
		}
	}
	return changed
}

// Restoring tells what stands in the form of Restore vDS: adapters, and vlan,
// empty for none. It is nil on any other screen.
func (w World) Restoring() map[string]string {
	if w.At() != placeNames[restoreVDS] {
		return nil
	}
	form := map[string]string{"adapters": "", "vlan": part(w.lines, fieldEnd, 1)}
	if part(w.lines, fieldEnd, 0) != "" {
		form["adapters"] = forms[restoreVDS][0].label
	}
	return form
}
