package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Leftover is something that a migration leaves in place on purpose, so that
// the way back stays short.
type Leftover struct {
	What   string `json:"what"`
	Safe   bool   `json:"safe"`
	Reason string `json:"reason"` // why it is safe to remove, or what it waits for
	remove *removal
}

// Leftovers lists what a host no longer needs once its management has settled
// on one kind of switch: switches without an uplink, their port groups, and the
// membership of a DVS. It is pure.
func Leftovers(s *Snapshot, vmk string) (out []Leftover) {
	if vmk == "" {
		vmk = "vmk0"
	}
	home := s.vmkernel(vmk)
	for i := range s.Standard {
		sw := &s.Standard[i]
		if len(sw.Uplinks) > 0 || home != nil && home.Switch == sw.Name && home.Kind == Standard {
			continue
		}
		busy := false
		for _, g := range sw.PortGroups {
			l := newLeftover(removePortGroup(sw.Name, g.Label), s.pluggedInto(Standard, sw.Name, g.Label))
			busy = busy || !l.Safe
			out = append(out, l)
		}
		l := newLeftover(removeSwitch(sw.Name), nil)
		if busy {
			l.Safe, l.Reason, l.remove = false, "a port group of it is in use", nil
		}
		out = append(out, l)
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
		out = append(out, l)
	}
	return out
}

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
	still := Leftovers(after, "")
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
