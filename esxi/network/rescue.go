package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Acts of a journal that have to do with a console.
const (
	actRescue = "rescue"
	actRest   = "rest" // what is left of the move, with management where the console has put it
)

// ErrUndone is for typing that certainly did nothing to the host's network: not
// begun, or broken off before the key that confirms.
var ErrUndone = errors.New("nothing was done at the console")

// Rescue brings back a host that Apply has left Gone. It looks once more, and
// goes on as Apply would where the host is there again. Else it notes in the
// journal that the console is about to be typed into, has typing do it, and
// waits up to within for the host. What typing returns is told and not trusted:
// the result is Applied only where a re-read equals the plan, RolledBack or
// NotApplied where the host is as it was, Rescued where it is there and neither,
// and Unknown where it stays away.
func (r *Run) Rescue(ctx context.Context, what string, within time.Duration, typing func(context.Context) error) (*Result, error) {
	r.begin()
	r.result.Gone, r.result.Left = false, nil
	look, cancel := context.WithTimeout(ctx, r.Via.readLimit())
	s, err := r.believe(look, time.Now())
	cancel()
	if err == nil {
		r.note("the host is back, nothing is typed; %s", r.where(s))
		return r.goOn(context.WithoutCancel(ctx), s)
	}
	if err := ctx.Err(); err != nil {
		r.result.Gone = true
		return r.end(Unknown, errors.New("interrupted before the rescue: nothing was typed"))
	}
	at := make([]string, len(r.result.At))
	for i, k := range r.result.At {
		at[i] = string(k)
	}
	if err := r.Journal.Append(Record{Kind: "act", Act: actRescue, Objects: append([]string{what}, at...)}); err != nil {
		r.result.Gone = true
		return r.end(Unknown, fmt.Errorf("%w, because the journal takes no note of it: %w", ErrUndone, err))
	}
	r.step("rescue", Started, "typing %s at the console", what)
	began := time.Now()
	typed := typing(ctx)
	if ctx.Err() != nil { // whoever stopped it wants to know, not to wait
		within = min(within, cleanupLimit)
	}
	ctx = context.WithoutCancel(ctx)
	rec := Record{Kind: "answer", Act: actRescue}
	if typed != nil {
		rec.Error = plainError(typed)
	}
	if err := r.Journal.Append(rec); err != nil {
		r.note("%s", err)
	}
	r.result.Typed = !errors.Is(typed, ErrUndone)
	if typed != nil {
		r.step("rescue", Failed, "%s", plainError(typed))
		if r.result.Cause != "" {
			r.result.Cause += "; "
		}
		r.result.Cause += "the rescue: " + plainError(typed)
	} else {
		r.step("rescue", Done, "%s went through", what)
	}
	r.sent, r.Window = time.Now(), within
	r.step("verify", Started, "reading the host back on every path")
	s, err = r.settle(ctx, false)
	r.result.Outage += time.Since(began)
	if err != nil {
		r.step("verify", Failed, "%s", plainError(err))
		r.result.Gone = true
		return r.end(Unknown, err)
	}
	r.step("verify", Done, "%s", r.where(s))
	return r.goOn(ctx, s)
}

// goOn ends a run whose host was gone and is there again.
func (r *Run) goOn(ctx context.Context, s *Snapshot) (*Result, error) {
	p := r.Plan
	switch {
	case len(p.After.mismatches(s)) == 0, !r.result.Typed && p.After.holds(s):
		return r.finishVMs(ctx, s)
	case p.Before.holds(s), !r.result.Typed:
		return r.undoFrom(ctx, s)
	}
	r.result.Left = append(r.result.Left, p.After.mismatches(s)...)
	r.result.FailedVMs = nil
	for _, name := range r.pending(s, forward) {
		r.result.FailedVMs = append(r.result.FailedVMs, name+": "+r.darkWords(s))
	}
	r.result.Moved = len(p.VMs) - len(r.result.FailedVMs)
	return r.end(Rescued, nil)
}

// darkWords says what it means to be left on the old switch.
func (r *Run) darkWords(s *Snapshot) string {
	if s.carried(r.Plan.From, r.Plan.FromSwitch) {
		return "still on " + r.Plan.FromSwitch
	}
	return "still on " + r.Plan.FromSwitch + ", which has no uplink"
}

// Settled reports whether a move to a standard switch has left management, and
// its uplink, on one in another way than planned. A console's "Restore Standard
// Switch" does that, whoever chose it; no journal need know. The way on is Resume:
// the host is reached as it is, and was perhaps cut off as it was. It is pure.
func (p *Plan) Settled(s *Snapshot) bool {
	home := s.vmkernel(p.Goal.Vmk)
	if p.To != Standard || home == nil || home.Kind != Standard || len(p.After.mismatches(s)) == 0 {
		return false
	}
	return !slices.ContainsFunc(p.After.Uplinks, func(u UplinkState) bool {
		at := s.uplinkState(u.Device)
		return at.Kind != Standard || at.Switch != home.Switch
	})
}

// Dark lists the machines of the plan that are still on the switch it moves
// them from, if that has no uplink: nothing reaches them from outside. It is pure.
func (p *Plan) Dark(s *Snapshot) (out []string) {
	if s.carried(p.From, p.FromSwitch) {
		return nil
	}
	for _, vm := range s.VMs {
		on := func(n NIC) bool { return n.Kind == p.From && n.Switch == p.FromSwitch }
		ours := slices.ContainsFunc(p.VMs, func(m VMEdit) bool { return m.Name == vm.Name })
		if ours && slices.ContainsFunc(vm.NICs, on) {
			out = append(out, vm.Name)
		}
	}
	return out
}

// carried reports whether a switch has an uplink.
func (s *Snapshot) carried(kind Kind, sw string) bool {
	return slices.ContainsFunc(s.Uplinks, func(u Uplink) bool { return u.Switch == sw && u.Kind == kind })
}

// resumeRescued moves what a rescue has left behind on the distributed switch.
// Management stays where the console has put it, and as: the host was cut off
// with the plan's settings, and these are the ones it is reached by.
func (r *Run) resumeRescued(ctx context.Context, s *Snapshot) (*Result, error) {
	p, err := r.Plan.rest(s)
	if err != nil {
		r.result.Left = append(r.result.Left, r.Plan.After.mismatches(s)...)
		return r.end(Rescued, err)
	}
	if err := r.Journal.Append(Record{Kind: "plan", Plan: p}); err != nil {
		return r.end(Rescued, err)
	}
	r.Plan = p
	for _, v := range p.After.Vmkernels {
		if v.Device == p.Goal.Vmk {
			r.note("%s stays as the console has set it: %s", v.Device, v.At)
		}
	}
	var names []string
	for _, vm := range p.VMs {
		names = append(names, vm.Name)
	}
	if err := r.Journal.Append(Record{Kind: "act", Act: actRest, Objects: append([]string{p.ToSwitch}, names...)}); err != nil {
		return r.end(Rescued, err)
	}
	r.result.Sent = true
	if len(p.Forward.Portgroup)+len(p.Forward.Vnic) > 0 {
		r.step("change", Started, "giving %s the port groups of the machines", p.ToSwitch)
		watch := r.watch(ctx)
		err := r.update(ctx, s, p.Forward)
		r.answer(actRest, err)
		r.outage(watch)
		if err != nil {
			r.step("change", Failed, "%s", plainError(err))
			r.result.Cause = plainError(err)
		} else {
			r.step("change", Done, "the host took the change")
		}
		next, serr := r.settle(ctx, false)
		if serr != nil {
			return r.end(Unknown, serr)
		}
		if err != nil {
			r.result.Left = append(r.result.Left, p.After.mismatches(next)...)
			for _, name := range r.pending(next, forward) {
				r.result.FailedVMs = append(r.result.FailedVMs, name+": "+r.darkWords(next))
			}
			return r.end(Rescued, err)
		}
		s = next
	}
	return r.finishVMs(ctx, s)
}

// rest is what is left of a move to a standard switch after the console has put
// management on one: its port groups, and the machines. What the console did is
// taken as it is. The way back is that of the whole move. It is pure.
func (p *Plan) rest(s *Snapshot) (*Plan, error) {
	home := s.vmkernel(p.Goal.Vmk)
	if home == nil || home.Kind != Standard {
		return nil, fmt.Errorf("%s is on no standard switch, so nothing can follow it there", p.Goal.Vmk)
	}
	q := *p
	q.ToSwitch = home.Switch
	q.Made.PortGroups = slices.Clone(p.Made.PortGroups)
	q.Forward, q.After = Config{}, Layout{NICs: slices.Clone(p.After.NICs)}
	taken := map[string]bool{} // port groups that vmkernel adapters are plugged into
	for _, want := range p.After.Vmkernels {
		if v := s.vmkernel(want.Device); v != nil && v.Kind == Standard {
			taken[v.Group] = true
			q.After.Vmkernels = append(q.After.Vmkernels, v.state(s))
			continue
		}
		want.At.Switch = q.ToSwitch
		q.After.Vmkernels = append(q.After.Vmkernels, want)
		for _, c := range p.Forward.Vnic {
			if c.Device == want.Device {
				q.Forward.Vnic = append(q.Forward.Vnic, c)
			}
		}
	}
	for _, u := range p.After.Uplinks {
		q.After.Uplinks = append(q.After.Uplinks, s.uplinkState(u.Device))
	}
	var planned []string // port groups of the plan, by label
	for _, c := range p.Forward.Portgroup {
		planned = append(planned, c.Spec.Name)
	}
	for _, g := range p.After.Groups {
		if taken[g.Label] {
			continue
		}
		i := slices.Index(planned, g.Label)
		if i < 0 {
			continue
		}
		c := p.Forward.Portgroup[i]
		spec := *c.Spec
		spec.VswitchName, g.Switch = q.ToSwitch, q.ToSwitch
		c.Spec, c.ChangeOperation = &spec, "add"
		if sw, have := s.portGroup(g.Label); have != nil {
			if sw.Name != q.ToSwitch {
				return nil, fmt.Errorf("port group %s exists on %s already, and a label is unique on its host", g.Label, sw.Name)
			}
			c.ChangeOperation = "edit"
		} else if !slices.Contains(q.Made.PortGroups, g.Label) {
			q.Made.PortGroups = append(q.Made.PortGroups, g.Label)
		}
		q.Forward.Portgroup = append(q.Forward.Portgroup, c)
		q.After.Groups = append(q.After.Groups, g)
	}
	q.VMs = slices.Clone(p.VMs)
	for i, vm := range q.VMs {
		vm.NICs = slices.Clone(vm.NICs)
		for k := range vm.NICs {
			if taken[vm.NICs[k].To.Group] {
				return nil, fmt.Errorf("%s and a vmkernel adapter would share the port group %s", vm.Name, vm.NICs[k].To.Group)
			}
			vm.NICs[k].To.Switch = q.ToSwitch
		}
		q.VMs[i] = vm
	}
	for i := range q.After.NICs {
		q.After.NICs[i].At.Switch = q.ToSwitch
	}
	if len(q.After.mismatches(s)) == 0 {
		q.Forward = Config{} // made by an earlier resume
	}
	q.Warnings = append(slices.Clone(p.Warnings), "management is as the console has set it")
	return &q, nil
}

// Stranded lists the kinds of switch on which management may be after a move
// that has cut the host off, the likeliest first. vCenter takes such a change
// back, unless that is turned off; on the host itself nobody does. It is pure.
func (p *Plan) Stranded(s *Snapshot) []Kind {
	if p.Via == "vcenter" && s.Rollback != "false" {
		return []Kind{p.From, p.To}
	}
	return []Kind{p.To}
}
