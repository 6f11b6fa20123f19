package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SwitchName names a switch, or a host's part of a distributed one.
type SwitchName struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// Leftover is something that a migration leaves in place on purpose, so that
// the way back stays short.
type Leftover struct {
	What   string `json:"what"`
	Switch string `json:"switch"` // that it is, or is a part of
	Safe   bool   `json:"safe"`
	Reason string `json:"reason"` // why it is safe to remove, or what it waits for
	remove *removal
}

// Leftovers lists what a host no longer needs once its management has settled
// on one kind of switch: switches without an uplink, their port groups, and the
// membership of a DVS. A switch without an uplink may be isolated on purpose, so
// only what belongs to one of ours is safe to remove. It is pure.
func Leftovers(s *Snapshot, vmk string, ours func(SwitchName) bool) (out []Leftover) {
	if vmk == "" {
		vmk = "vmk0"
	}
	spare := func(l Leftover, sw SwitchName) Leftover {
		l.Switch = sw.Name
		if l.Safe && !ours(sw) {
			l.Safe, l.Reason, l.remove = false, notOurs, nil
		}
		return l
	}
	home := s.vmkernel(vmk)
	for i := range s.Standard {
		sw := &s.Standard[i]
		if len(sw.Uplinks) > 0 || home != nil && home.Switch == sw.Name && home.Kind == Standard {
			continue
		}
		name := SwitchName{Standard, sw.Name}
		busy := false
		for _, g := range sw.PortGroups {
			l := newLeftover(removePortGroup(sw.Name, g.Label), s.pluggedInto(Standard, sw.Name, g.Label))
			busy = busy || !l.Safe
			out = append(out, spare(l, name))
		}
		l := newLeftover(removeSwitch(sw.Name), nil)
		if busy {
			l.Safe, l.Reason, l.remove = false, "a port group of it is in use", nil
		}
		out = append(out, spare(l, name))
	}
	for i := range s.Distributed {
		d := &s.Distributed[i]
		if !d.Member || len(d.Members) > 0 {
			continue
		}
		l := newLeftover(leaveDVS(d.UUID, d.Name), s.pluggedInto(Distributed, d.Name, ""))
		if l.Safe && !s.VCenter {
			l.Safe, l.Reason, l.remove = false, "only vCenter can end it", nil
		}
		out = append(out, spare(l, SwitchName{Distributed, d.Name}))
	}
	return out
}

// Same reports whether both say the same of the same thing.
func (l Leftover) Same(m Leftover) bool {
	return l.What == m.What && l.Switch == m.Switch && l.Safe == m.Safe && l.Reason == m.Reason
}

const notOurs = "no move of labctl made or emptied it: it may be isolated on purpose"

func newLeftover(r removal, users []string) Leftover {
	if len(users) > 0 {
		return Leftover{What: r.what, Reason: "in use by " + strings.Join(users, ", ")}
	}
	return Leftover{What: r.what, Safe: true, Reason: "nothing is plugged in", remove: &r}
}

// pluggedInto names what is plugged into a switch, or into one group of it.
// A machine that is powered off counts: it would start without a network.
func (s *Snapshot) pluggedInto(kind Kind, sw, group string) (out []string) {
	for _, v := range s.Vmkernels {
		if v.Kind == kind && v.Switch == sw && (group == "" || v.Group == group) {
			out = append(out, v.Device)
		}
	}
	for _, vm := range s.VMs {
		if slices.ContainsFunc(vm.NICs, func(n NIC) bool { return n.Kind == kind && n.Switch == sw && (group == "" || n.Group == group) }) {
			out = append(out, vm.Name)
		}
	}
	return out
}

// switches lists what the plan made or emptied when it was carried out.
func (p *Plan) switches() (out []SwitchName) {
	if p.FromSwitch != p.ToSwitch {
		out = append(out, SwitchName{p.From, p.FromSwitch})
	}
	if p.Made.Switch != "" {
		out = append(out, SwitchName{Standard, p.Made.Switch})
	}
	for _, pre := range []*Prepare{p.Prepare, p.Prepared} {
		if pre != nil && pre.Join {
			out = append(out, SwitchName{Distributed, pre.DVS})
		}
	}
	return out
}

// OwnSwitches lists the switches that the moves in a host's journals in dir made
// or emptied and that no cleanup has removed since. A journal that cannot be
// read claims nothing.
func OwnSwitches(dir, host string) ([]SwitchName, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look through the journals: %w", err)
	}
	var out []SwitchName
	for _, e := range entries { // the oldest first
		if !strings.HasPrefix(e.Name(), fileName(host)+"-") || filepath.Ext(e.Name()) != ".jsonl" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		records, _, err := ParseJournal(b)
		if err != nil || records[0].Host != host {
			continue
		}
		j := Journal{Records: records}
		if p := j.Plan(); p != nil && j.Sent() {
			out = append(out, p.switches()...)
		}
		for _, r := range records {
			if r.Kind == "cleanup" {
				out = slices.DeleteFunc(out, func(n SwitchName) bool {
					gone := removeSwitch(n.Name).what
					if n.Kind == Distributed {
						gone = leaveDVS("", n.Name).what
					}
					return slices.Contains(r.Objects, gone)
				})
			}
		}
	}
	return out, nil
}

// Remove takes the safe ones away, one after another, and returns what of them
// is still there afterwards, with the reason.
func (r *Run) Remove(ctx context.Context, s *Snapshot, all []Leftover) (removed, left []string, err error) {
	r.begin()
	reasons := map[string]string{}
	var safe []string
	for _, l := range all {
		if !l.Safe {
			continue
		}
		safe = append(safe, l.What)
		r.step("clean", Started, "removing %s", l.What)
		if err := r.retry(ctx, func() error { return l.remove.do(ctx, r, s) }); err != nil {
			reasons[l.What] = plainError(err)
			r.step("clean", Failed, "%s stays: %s", l.What, plainError(err))
		}
	}
	after, _, err := r.Via.reread(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, safe, fmt.Errorf("read the host back: %w", err)
	}
	still := Leftovers(after, "", func(SwitchName) bool { return false })
	for _, what := range safe {
		if slices.ContainsFunc(still, func(l Leftover) bool { return l.What == what }) {
			if why := reasons[what]; why != "" {
				what += ": " + why
			}
			left = append(left, what)
		} else {
			removed = append(removed, what)
		}
	}
	return removed, left, nil
}
