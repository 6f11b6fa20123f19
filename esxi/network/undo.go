package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// actUndo is the act of a journal that sends the inverse.
const actUndo = "undo"

// prepare does on the DVS what the plan needs there, and plans anew from what
// the host shows after it: only then are the keys of new port groups and the
// uplink ports of a new member known.
func (r *Run) prepare(ctx context.Context) (*Snapshot, error) {
	todo := r.Plan.Prepare
	h, err := r.Via.Host(ctx)
	if err != nil {
		return nil, err
	}
	s, err := ReadFor(ctx, h, r.Plan.Goal)
	if err != nil {
		return nil, err
	}
	d := s.dvsNamed(todo.DVS)
	if d == nil {
		return nil, fmt.Errorf("prepare %s: it is gone", todo.DVS)
	}
	// What somebody else has made in the meantime is not ours to remove again.
	stale := todo.Join && d.Member
	var names []string
	for _, n := range todo.Create {
		names = append(names, n.Name)
		stale = stale || d.groupNamed(n.Name) != nil
	}
	if stale {
		return nil, fmt.Errorf("prepare %s: %w", todo.DVS, &StaleError{Host: r.Plan.Host})
	}
	if err := r.Journal.Append(Record{Kind: "act", Act: "prepare", Objects: append([]string{todo.DVS}, names...)}); err != nil {
		return nil, err
	}
	r.result.Sent = true
	ctx = context.WithoutCancel(ctx) // a task that has begun is waited for: only then can it be undone
	r.step("prepare", Started, "preparing %s", todo.DVS)
	err = r.prepareDVS(ctx, s, d, todo)
	r.answer("prepare", err)
	if err != nil {
		r.step("prepare", Failed, "%s", plainError(err))
		return nil, fmt.Errorf("prepare %s: %w", todo.DVS, err)
	}
	s, err = ReadFor(ctx, h, r.Plan.Goal)
	if err != nil {
		return nil, err
	}
	s.Host = r.Plan.Host
	next := NewPlan(s, r.Plan.Goal)
	if next.Refused() {
		return nil, fmt.Errorf("after preparing %s: %s", todo.DVS, next.Refusals[0].Reason)
	}
	if next.Prepare != nil || next.Already {
		return nil, fmt.Errorf("after preparing %s it still does not hold what the plan needs", todo.DVS)
	}
	next.Prepared, next.Fingerprint = todo, r.Plan.Fingerprint
	r.Plan = next
	if err := r.Journal.Append(Record{Kind: "plan", Plan: next}); err != nil {
		return nil, err
	}
	r.step("prepare", Done, "%s is ready", todo.DVS)
	return s, nil
}

func (r *Run) prepareDVS(ctx context.Context, s *Snapshot, d *DistributedSwitch, todo *Prepare) error {
	if todo.Join {
		if err := r.member(ctx, d, s.Ref, types.ConfigSpecOperationAdd); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	vim := r.Via.Client().Vim
	var specs []types.DVPortgroupConfigSpec
	for _, n := range todo.Create {
		kind, ports := types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding, int32(8)
		if n.Ephemeral {
			kind, ports = types.DistributedVirtualPortgroupPortgroupTypeEphemeral, 0
		}
		specs = append(specs, types.DVPortgroupConfigSpec{
			Name: n.Name, Type: string(kind), NumPorts: ports, AutoExpand: types.NewBool(!n.Ephemeral),
			DefaultPortConfig: n.Policy.setting(n.VLAN, n.Slots),
		})
	}
	if len(specs) > 0 {
		res, err := methods.AddDVPortgroup_Task(ctx, vim, &types.AddDVPortgroup_Task{This: d.Ref, Spec: specs})
		if err != nil {
			return err
		}
		if err := r.wait(ctx, res.Returnval); err != nil {
			return fmt.Errorf("create port groups: %w", err)
		}
	}
	return nil
}

// configVersion reads which version of a DVS's configuration is the current
// one. An edit has to name it, and each edit makes a new one.
func (r *Run) configVersion(ctx context.Context, d *DistributedSwitch) (string, error) {
	objects, err := esxi.Retrieve(ctx, r.Via.Client().Vim, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: d.Ref.Type, PathSet: []string{"config.configVersion"}}},
		ObjectSet: []types.ObjectSpec{{Obj: d.Ref}},
	})
	if err != nil {
		return "", err
	}
	for _, o := range objects {
		for _, p := range o.PropSet {
			if v, ok := p.Val.(string); ok {
				return v, nil
			}
		}
	}
	return "", fmt.Errorf("%s does not show the version of its configuration", d.Name)
}

// member adds the host to a DVS without an uplink, or removes it.
func (r *Run) member(ctx context.Context, d *DistributedSwitch, host types.ManagedObjectReference, op types.ConfigSpecOperation) error {
	version, err := r.configVersion(ctx, d)
	if err != nil {
		return err
	}
	m := types.DistributedVirtualSwitchHostMemberConfigSpec{Operation: string(op), Host: host}
	if op == types.ConfigSpecOperationAdd {
		m.Backing = &types.DistributedVirtualSwitchHostMemberPnicBacking{}
	}
	res, err := methods.ReconfigureDvs_Task(ctx, r.Via.Client().Vim, &types.ReconfigureDvs_Task{
		This: d.Ref, Spec: &types.DVSConfigSpec{ConfigVersion: version, Host: []types.DistributedVirtualSwitchHostMemberConfigSpec{m}},
	})
	if err != nil {
		return err
	}
	return r.wait(ctx, res.Returnval)
}

// wait polls one task until it ends.
func (r *Run) wait(ctx context.Context, task types.ManagedObjectReference) error {
	ctx, cancel := context.WithTimeout(ctx, r.answerLimit())
	defer cancel()
	spec := types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "Task", PathSet: []string{"info"}}},
		ObjectSet: []types.ObjectSpec{{Obj: task}},
	}
	var err error
	r.during("a task of vCenter", func() {
		for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			var objects []types.ObjectContent
			if objects, err = esxi.Retrieve(ctx, r.Via.Client().Vim, spec); err != nil {
				return
			}
			var tasks []mo.Task
			if err = mo.LoadObjectContent(objects, &tasks); err != nil {
				return
			}
			if len(tasks) == 1 {
				switch st := newTaskState(task, tasks[0].Info.State, tasks[0].Info.Error); st.State {
				case types.TaskInfoStateSuccess:
					return
				case types.TaskInfoStateError:
					err = errors.New(st.Fault)
					return
				}
			}
			if !sleep(ctx, pause) {
				err = ctx.Err()
				return
			}
		}
	})
	return err
}

// quiet waits until no task is running that could still join the host to a DVS
// or create a port group: the answer that named it may have been lost.
func (r *Run) quiet(ctx context.Context) {
	deadline := time.Now().Add(r.awayLimit())
	r.during("tasks of vCenter to end", func() {
		for {
			h, err := r.Via.Host(ctx)
			if err != nil {
				return // what can be read, settle reads
			}
			s, _, err := read(ctx, h, readOptions{AllDVS: true})
			if err != nil || len(s.RunningTasks) == 0 || time.Now().After(deadline) || !sleep(ctx, rereadEvery) {
				return
			}
		}
	})
}

// undoAfterFailure undoes a preparation whose change was never sent.
func (r *Run) undoAfterFailure(ctx context.Context) (*Result, error) {
	r.quiet(ctx)
	s, err := r.settle(ctx, false)
	if err != nil {
		return r.end(Unknown, err)
	}
	return r.undoFrom(ctx, s)
}

// undoFrom brings the host from wherever it is to where it was, and says how
// it got there: rolled back if anything had moved, else not applied.
func (r *Run) undoFrom(ctx context.Context, s *Snapshot) (*Result, error) {
	p := r.Plan
	moved := !p.Before.holds(s) || len(r.pending(s, backward)) > 0
	outcome := NotApplied
	if r.result.RolledBy == "vcenter" || moved {
		outcome = RolledBack
	}
	if !p.Before.holds(s) {
		var err error
		if s, err = r.undoChange(ctx, s); err != nil {
			r.step("undo", Failed, "%s", plainError(err))
			r.result.Left = append(r.result.Left, r.leftOnHost(s)...)
			return r.end(Unknown, err)
		}
		r.result.RolledBy = "labctl"
	}
	if todo := r.pending(s, backward); len(todo) > 0 {
		if err := r.Journal.Append(Record{Kind: "act", Act: "undo vms", Objects: todo}); err != nil {
			return r.end(Unknown, err)
		}
		r.result.RolledBy = "labctl"
		r.tried, r.reasons = 0, nil // the tries of the way there do not count
		after, failed := r.bringAll(ctx, s, backward)
		if after == nil {
			return r.end(Unknown, errors.New("the host stopped answering while virtual machines were moved back"))
		}
		s, r.result.FailedVMs = after, failed
		if len(failed) > 0 {
			r.step("vms", Failed, "%s", strings.Join(failed, "; "))
		} else {
			r.step("vms", Done, "%s moved back", count(len(todo), "virtual machine"))
		}
	}
	s = r.removeMade(ctx, s)
	if s != nil {
		r.result.Left = append(r.result.Left, p.Before.mismatches(s)...)
	}
	return r.end(outcome, nil)
}

// leftOnHost says how a host that could not be brought back differs from what
// it was.
func (r *Run) leftOnHost(s *Snapshot) []string {
	if s == nil {
		return []string{"the host does not answer"}
	}
	return r.Plan.Before.mismatches(s)
}

// undoChange sends the inverse, shaped after what is there now: it edits only
// what exists.
func (r *Run) undoChange(ctx context.Context, s *Snapshot) (*Snapshot, error) {
	p := r.Plan
	if !s.VCenter && !p.hostCanUndo(s) {
		if p.Goal.VCSAOnHost {
			return s, fmt.Errorf("the host alone cannot plug adapters into a port group with static binding, and vCenter runs on it: make %s ephemeral first", p.Management().At.Group)
		}
		if r.Other == nil {
			return s, errors.New("only vCenter can plug an adapter into a port group with static binding, and no vCenter is configured")
		}
		r.Via, r.Other = r.Other, r.Via
		through, _, err := r.Via.reread(ctx, nil)
		if err != nil {
			return s, fmt.Errorf("only vCenter can plug an adapter into a port group with static binding: %w", err)
		}
		s = through
	}
	if err := r.Journal.Append(Record{Kind: "act", Act: actUndo, Objects: []string{p.FromSwitch}}); err != nil {
		return s, err
	}
	r.result.Sent = true
	r.step("undo", Started, "moving %s and its uplink back to %s", p.Goal.Vmk, p.FromSwitch)
	r.reverts = false // what would be taken back now is the way back
	watch := r.watch(ctx)
	defer func() { r.outage(watch) }()
	err := r.update(ctx, s, p.inverseFor(s))
	r.answer(actUndo, err)
	if err == nil {
		r.at = []Kind{p.From}
	}
	var call *esxi.CallError
	lost := err != nil && !(errors.As(err, &call) && call.Refused)
	back, serr := r.settleAt(ctx, lost, &p.Before)
	switch {
	case serr != nil:
		return nil, serr
	case p.Before.holds(back):
		r.step("undo", Done, "%s", r.where(back))
		return back, nil
	case err != nil:
		return back, fmt.Errorf("the host would not go back: %w", err)
	}
	return back, errors.New("the host would not go back")
}

// hostCanUndo reports whether the host alone can plug its vmkernel adapters in
// where they came from.
func (p *Plan) hostCanUndo(s *Snapshot) bool {
	return !slices.ContainsFunc(p.Before.Vmkernels, func(v VmkernelState) bool { return s.static(v.At) })
}

// inverseFor leaves out of the inverse what the host does not have, and keeps
// physical NICs where they are that the move was not about: a switch's list of
// NICs is always sent whole, and a rollback may come long after the move.
func (p *Plan) inverseFor(s *Snapshot) Config {
	c := p.Inverse
	ours := p.moves
	c.Vswitch = slices.DeleteFunc(slices.Clone(c.Vswitch), func(v types.HostVirtualSwitchConfig) bool { return s.standard(v.Name) == nil })
	for i, v := range c.Vswitch {
		var others []string
		for _, nic := range s.standard(v.Name).Uplinks {
			if !ours(nic) {
				others = append(others, nic)
			}
		}
		c.Vswitch[i].Spec = withOthers(v.Spec, ours, others)
	}
	c.ProxySwitch = slices.Clone(c.ProxySwitch)
	for i, v := range c.ProxySwitch {
		d := s.dvs(v.Uuid)
		planned, ok := v.Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking)
		if d == nil || !ok {
			continue
		}
		isOurs := func(m types.DistributedVirtualSwitchHostMemberPnicSpec) bool { return ours(m.PnicDevice) }
		members := slices.DeleteFunc(slices.Clone(d.Members), isOurs)
		for _, m := range planned.PnicSpec {
			if isOurs(m) {
				members = append(members, m)
			}
		}
		c.ProxySwitch[i] = proxyEdit(v.Uuid, members)
	}
	c.Portgroup = slices.DeleteFunc(slices.Clone(c.Portgroup), func(g types.HostPortGroupConfig) bool {
		sw, _ := s.portGroup(g.Spec.Name)
		return sw == nil || sw.Name != g.Spec.VswitchName
	})
	c.Vnic = slices.DeleteFunc(slices.Clone(c.Vnic), func(v types.HostVirtualNicConfig) bool { return s.vmkernel(v.Device) == nil })
	return c
}

// moves reports whether a physical NIC is one of those that the plan moves.
func (p *Plan) moves(nic string) bool {
	return slices.ContainsFunc(p.Before.Uplinks, func(u UplinkState) bool { return u.Device == nic })
}

// withOthers returns a standard switch's specification with other NICs in place
// of those in it that are not ours.
func withOthers(spec *types.HostVirtualSwitchSpec, ours func(string) bool, others []string) *types.HostVirtualSwitchSpec {
	var planned, nics []string
	bond, _ := spec.Bridge.(*types.HostVirtualSwitchBondBridge)
	if bond != nil {
		planned = bond.NicDevice
	}
	for _, nic := range planned {
		if ours(nic) || slices.Contains(others, nic) {
			nics = append(nics, nic)
		}
	}
	gone := func(nic string) bool { return !slices.Contains(nics, nic) }
	var fresh []string
	for _, nic := range others {
		if gone(nic) {
			fresh = append(fresh, nic)
		}
	}
	if len(fresh) == 0 && len(nics) == len(planned) {
		return spec
	}
	out := *spec
	nics = append(nics, fresh...)
	out.Bridge = nil
	if len(nics) > 0 {
		bridge := types.HostVirtualSwitchBondBridge{Beacon: defaultBeacon()}
		if bond != nil {
			bridge = *bond
		}
		bridge.NicDevice = nics
		out.Bridge = &bridge
	}
	if spec.Policy != nil && spec.Policy.NicTeaming != nil {
		policy, teaming, order := *spec.Policy, *spec.Policy.NicTeaming, types.HostNicOrderPolicy{}
		if o := teaming.NicOrder; o != nil {
			order.ActiveNic = slices.DeleteFunc(slices.Clone(o.ActiveNic), gone)
			order.StandbyNic = slices.DeleteFunc(slices.Clone(o.StandbyNic), gone)
		}
		order.ActiveNic = append(order.ActiveNic, fresh...)
		teaming.NicOrder, policy.NicTeaming = &order, &teaming
		out.Policy = &policy
	}
	return &out
}

// removeMade removes what the change created on the host, and then what the
// preparation created on the DVS, as far as nothing is plugged into it. It
// returns the last snapshot, nil if the host stopped answering.
func (r *Run) removeMade(ctx context.Context, s *Snapshot) *Snapshot {
	p := r.Plan
	steps := p.leftovers(s)
	if len(steps) == 0 {
		return s
	}
	var names []string
	for _, st := range steps {
		names = append(names, st.what)
	}
	if err := r.Journal.Append(Record{Kind: "act", Act: "undo made", Objects: names}); err != nil {
		r.result.Left = append(r.result.Left, names...)
		r.note("%s", err)
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, min(cleanupLimit, r.awayLimit()))
	defer cancel()
	r.step("clean", Started, "removing %s", strings.Join(names, ", "))
	for _, st := range steps {
		if len(st.users) > 0 {
			r.note("%s stays: in use by %s", st.what, strings.Join(st.users, ", "))
			continue
		}
		if err := r.retry(ctx, func() error { return st.do(ctx, r, s) }); err != nil {
			r.note("%s stays: %s", st.what, plainError(err))
		}
	}
	next, _, err := r.Via.reread(context.WithoutCancel(ctx), nil)
	if err != nil {
		r.result.Left = append(r.result.Left, names...)
		r.step("clean", Failed, "%s", plainError(err))
		return nil
	}
	left := p.leftovers(next)
	for _, st := range left {
		r.result.Left = append(r.result.Left, st.what)
	}
	if len(left) == 0 {
		r.step("clean", Done, "nothing is left behind")
	} else {
		r.step("clean", Failed, "%s is left behind", strings.Join(r.result.Left, ", "))
	}
	return next
}

// retry repeats a call that was refused, twice at the most and within three
// seconds. A call without an answer is not repeated: it may have landed.
func (r *Run) retry(ctx context.Context, f func() error) error {
	until := time.Now().Add(retryWithin)
	for attempt := 1; ; attempt++ {
		err := f()
		var call *esxi.CallError
		if err == nil || attempt > 2 || time.Now().After(until) || !errors.As(err, &call) || !call.Refused {
			return err
		}
		if !sleep(ctx, time.Duration(attempt)*500*time.Millisecond) {
			return err
		}
	}
}

// removal is one thing to take away.
type removal struct {
	what  string
	users []string // what has been plugged in since and would be cut off
	do    func(ctx context.Context, r *Run, s *Snapshot) error
}

// leftovers lists what the plan created and is still there, in the order in
// which it can be removed. It is pure.
func (p *Plan) leftovers(s *Snapshot) (out []removal) {
	for _, label := range p.Made.PortGroups {
		if sw, g := s.portGroup(label); g != nil && sw.Name == p.ToSwitch {
			r := removePortGroup(sw.Name, label)
			r.users = s.pluggedInto(Standard, sw.Name, label)
			out = append(out, r)
		}
	}
	if sw := s.standard(p.Made.Switch); sw != nil {
		r := removeSwitch(sw.Name)
		r.users = s.pluggedInto(Standard, sw.Name, "")
		for _, g := range sw.PortGroups { // a switch takes its port groups along
			if !slices.Contains(p.Made.PortGroups, g.Label) {
				r.users = append(r.users, "port group "+g.Label)
			}
		}
		for _, nic := range sw.Uplinks {
			if !p.moves(nic) {
				r.users = append(r.users, nic)
			}
		}
		out = append(out, r)
	}
	pre := p.Prepared
	if pre == nil {
		pre = p.Prepare
	}
	if pre == nil || !s.VCenter {
		return out
	}
	if d := s.dvsNamed(pre.DVS); d != nil {
		if pre.Join && d.Member {
			out = append(out, leaveDVS(d.UUID, d.Name))
		}
		for _, n := range pre.Create {
			if g := d.groupNamed(n.Name); g != nil {
				out = append(out, removeDVPortGroup(g.Ref, n.Name, d.Name))
			}
		}
	}
	return out
}

func removePortGroup(sw, label string) removal {
	return removal{
		what: fmt.Sprintf("port group %s of %s", label, sw),
		do: func(ctx context.Context, r *Run, s *Snapshot) error {
			_, err := methods.RemovePortGroup(ctx, r.Via.Client().Vim, &types.RemovePortGroup{This: s.NetworkSystem, PgName: label})
			return err
		},
	}
}

func removeSwitch(name string) removal {
	return removal{
		what: "standard switch " + name,
		do: func(ctx context.Context, r *Run, s *Snapshot) error {
			_, err := methods.RemoveVirtualSwitch(ctx, r.Via.Client().Vim, &types.RemoveVirtualSwitch{This: s.NetworkSystem, VswitchName: name})
			return err
		},
	}
}

func leaveDVS(uuid, name string) removal {
	return removal{
		what: "membership of " + name,
		do: func(ctx context.Context, r *Run, s *Snapshot) error {
			d := s.dvs(uuid)
			if d == nil {
				return nil
			}
			return r.member(ctx, d, s.Ref, types.ConfigSpecOperationRemove)
		},
	}
}

func removeDVPortGroup(ref types.ManagedObjectReference, name, dvs string) removal {
	return removal{
		what: fmt.Sprintf("port group %s of %s", name, dvs),
		do: func(ctx context.Context, r *Run, _ *Snapshot) error {
			res, err := methods.Destroy_Task(ctx, r.Via.Client().Vim, &types.Destroy_Task{This: ref})
			if err != nil {
				return err
			}
			return r.wait(ctx, res.Returnval)
		},
	}
}
