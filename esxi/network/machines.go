package network

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"
)

// direction is which way virtual machines go.
type direction bool

const (
	forward  direction = true
	backward direction = false
)

// editTask is one virtual machine's edit on its way.
type editTask struct {
	vm   VMEdit
	task types.ManagedObjectReference // zero when the call itself failed
	err  string                       // what the server objected to
	busy bool                         // the task has not ended
}

func refs(tasks []editTask) (out []types.ManagedObjectReference) {
	for _, t := range tasks {
		if t.task.Value != "" {
			out = append(out, t.task)
		}
	}
	return out
}

// record notes how the tasks stand.
func record(tasks []editTask, states []TaskState) {
	for i := range tasks {
		for _, st := range states {
			if st.Ref == tasks[i].task && st.State != "" { // an update may tell of the fault alone
				tasks[i].busy = st.State == types.TaskInfoStateRunning || st.State == types.TaskInfoStateQueued
				tasks[i].err = st.Fault
			}
		}
	}
}

func (d direction) of(n NICEdit) Attachment {
	if d == forward {
		return n.To
	}
	return n.From
}

// findVM finds the planned machine in a snapshot. A reference counts on the
// path it was read on; on the other one, the name and a MAC address do.
func (s *Snapshot) findVM(e VMEdit, mac map[int32]string) *VM {
	for i := range s.VMs {
		if v := &s.VMs[i]; v.Ref == e.Ref && v.Name == e.Name {
			return v
		}
	}
	for i := range s.VMs {
		v := &s.VMs[i]
		if v.Name == e.Name && slices.ContainsFunc(v.NICs, func(n NIC) bool { return n.MAC != "" && strings.EqualFold(n.MAC, mac[n.Key]) }) {
			return v
		}
	}
	return nil
}

func (p *Plan) macs(e VMEdit) map[int32]string {
	out := map[int32]string{}
	for _, n := range p.Before.NICs {
		if n.Ref == e.Ref.Value {
			out[n.Key] = n.MAC
		}
	}
	return out
}

// todo returns the machine and those of its NICs that are not where they
// belong; nothing for a machine that has left the host.
func (p *Plan) todo(s *Snapshot, e VMEdit, d direction) (*VM, []NICEdit) {
	vm := s.findVM(e, p.macs(e))
	if vm == nil {
		return nil, nil
	}
	var out []NICEdit
	for _, n := range e.NICs {
		for k := range vm.NICs {
			if have := &vm.NICs[k]; have.Key == n.Key && !have.at(s).same(d.of(n)) {
				out = append(out, n)
			}
		}
	}
	return vm, out
}

// pending names the machines that are not where they belong.
func (r *Run) pending(s *Snapshot, d direction) (names []string) {
	for _, e := range r.Plan.VMs {
		if _, todo := r.Plan.todo(s, e, d); len(todo) > 0 {
			names = append(names, e.Name)
		}
	}
	return names
}

// late names those of them that this path cannot plug in: on a host, what goes
// into a port group with static binding waits for vCenter.
func (r *Run) late(s *Snapshot, d direction) (names []string) {
	for _, e := range r.Plan.VMs {
		if _, todo := r.Plan.todo(s, e, d); cannotPlug(s, todo, d) {
			names = append(names, e.Name)
		}
	}
	return names
}

func cannotPlug(s *Snapshot, nics []NICEdit, d direction) bool {
	return !s.VCenter && slices.ContainsFunc(nics, func(n NICEdit) bool { return s.static(d.of(n)) })
}

// editVMs sends one edit for each machine that needs one, eight at a time and
// the urgent ones first, and returns as soon as all are on their way.
func (r *Run) editVMs(ctx context.Context, s *Snapshot, d direction) []editTask {
	var tasks []editTask
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(maxEdits)
	for _, e := range r.Plan.VMs {
		vm, todo := r.Plan.todo(s, e, d)
		if len(todo) == 0 || cannotPlug(s, todo, d) {
			continue
		}
		spec := nicSpec(vm, todo, d)
		ref := vm.Ref
		g.Go(func() error {
			t := editTask{vm: e}
			task, err := r.reconfigure(ctx, ref, spec)
			if err != nil {
				t.err = plainError(err)
			} else {
				t.task, t.busy = *task, true
			}
			mu.Lock()
			tasks = append(tasks, t)
			mu.Unlock()
			return nil
		})
	}
	if len(r.Plan.VMs) > 0 {
		r.step("vms", Started, "moving %s", count(len(r.Plan.VMs), "virtual machine"))
	}
	_ = g.Wait() // its functions return nil: each machine's error is in its task
	if r.tried++; r.tried == 1 {
		r.refused = time.Now()
	}
	r.blame(tasks)
	return tasks
}

func (r *Run) reconfigure(ctx context.Context, vm types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) (*types.ManagedObjectReference, error) {
	ctx, cancel := context.WithTimeout(ctx, r.answerLimit())
	defer cancel()
	h, err := r.Via.Host(ctx)
	if err != nil {
		return nil, err
	}
	res, err := methods.ReconfigVM_Task(ctx, h.Client(), &types.ReconfigVM_Task{This: vm, Spec: spec})
	if err != nil {
		return nil, err
	}
	return &res.Returnval, nil
}

// nicSpec edits the backing of live devices and nothing else of them.
func nicSpec(vm *VM, nics []NICEdit, d direction) types.VirtualMachineConfigSpec {
	var spec types.VirtualMachineConfigSpec
	for _, n := range nics {
		for _, have := range vm.NICs {
			if have.Key != n.Key {
				continue
			}
			spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationEdit,
				Device:    withBacking(have.Device, d.of(n)),
			})
		}
	}
	return spec
}

// withBacking returns a copy of a network card, plugged in elsewhere.
func withBacking(device types.BaseVirtualDevice, to Attachment) types.BaseVirtualDevice {
	cp := reflect.New(reflect.TypeOf(device).Elem())
	cp.Elem().Set(reflect.ValueOf(device).Elem())
	card := cp.Interface().(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	if to.Kind == Standard {
		card.Backing = &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: to.Group},
		}
	} else {
		card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
			Port: types.DistributedVirtualSwitchPortConnection{SwitchUuid: to.UUID, PortgroupKey: to.GroupKey},
		}
	}
	return cp.Interface().(types.BaseVirtualDevice)
}

// taskLooks are the pauses before the first looks at edits that have not ended
// when the host is read back: a machine takes some hundred milliseconds, and a
// look costs one request, where a filter costs three.
var taskLooks = []time.Duration{200 * time.Millisecond, 500 * time.Millisecond}

// The host is first read back after the edits have had a moment, by the number
// of those that had to queue: a read shows all machines, and one that comes too
// early is for nothing.
const (
	perEdit  = 10 * time.Millisecond
	mostWait = 3 * time.Second
)

// awaitTasks waits until every task has ended and returns the host as it is
// then: at first by reading it again together with the tasks, and where that
// takes long through one filter for all of them, looked at no more than four
// times a second. The number of requests does not depend on that of machines.
func (r *Run) awaitTasks(ctx context.Context, s *Snapshot, tasks []editTask) (*Snapshot, error) {
	busy := func() bool { return slices.ContainsFunc(tasks, func(t editTask) bool { return t.busy }) }
	for _, pause := range taskLooks {
		if !busy() {
			return s, nil
		}
		sleep(ctx, pause)
		again, states, err := r.Via.reread(ctx, refs(tasks))
		if err != nil {
			return r.settle(ctx, false)
		}
		record(tasks, states)
		r.ended(tasks)
		r.blame(tasks)
		s = again
	}
	if !busy() {
		return s, nil
	}
	wait, cancel := context.WithTimeout(ctx, r.answerLimit())
	defer cancel()
	r.during("virtual machines to be moved", func() { r.watchTasks(wait, tasks) })
	r.blame(tasks)
	again, _, err := r.Via.reread(ctx, nil)
	if err != nil {
		return r.settle(ctx, false)
	}
	return again, nil
}

// ended tells how many of several edits have ended.
func (r *Run) ended(tasks []editTask) {
	n := 0
	for _, t := range tasks {
		if !t.busy {
			n++
		}
	}
	if len(tasks) > 1 {
		r.emit(Event{Event: "progress", Step: "vms", Text: fmt.Sprintf("%d of %s", n, count(len(tasks), "virtual machine")), Done: n, Total: len(tasks)})
	}
}

func (r *Run) watchTasks(ctx context.Context, tasks []editTask) {
	vim := r.Via.Client().Vim
	pc := vim.ServiceContent.PropertyCollector
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "Task", PathSet: []string{"info.state", "info.error"}}}}
	for _, ref := range refs(tasks) {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: ref})
	}
	if _, err := methods.CreateFilter(ctx, vim, &types.CreateFilter{This: pc, Spec: spec}); err != nil {
		return // the re-read that follows tells where each machine is
	}
	version := ""
	for {
		res, err := methods.WaitForUpdatesEx(ctx, vim, &types.WaitForUpdatesEx{This: pc, Version: version, Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(5)}})
		if err != nil {
			return
		}
		if res.Returnval != nil {
			version = res.Returnval.Version
			for _, f := range res.Returnval.FilterSet {
				for _, o := range f.ObjectSet {
					record(tasks, []TaskState{taskUpdate(o)})
				}
			}
			r.ended(tasks)
		}
		if !slices.ContainsFunc(tasks, func(t editTask) bool { return t.busy }) || !sleep(ctx, batchInterval) {
			return
		}
	}
}

func taskUpdate(o types.ObjectUpdate) TaskState {
	var state types.TaskInfoState
	var fault *types.LocalizedMethodFault
	for _, c := range o.ChangeSet {
		switch v := c.Val.(type) {
		case types.TaskInfoState:
			state = v
		case types.LocalizedMethodFault:
			fault = &v
		}
	}
	return newTaskState(o.Obj, state, fault)
}

// finishVMs brings the remaining machines over and closes a run whose host part
// has arrived. An edit that the server refused is tried again, twice at the
// most; the machines that have moved are counted in the inventory.
func (r *Run) finishVMs(ctx context.Context, s *Snapshot) (*Result, error) {
	s, failed := r.bringAll(ctx, s, forward)
	if s == nil {
		return r.end(Unknown, fmt.Errorf("the host stopped answering while virtual machines were moved"))
	}
	r.result.FailedVMs = failed
	r.result.Moved = len(r.Plan.VMs) - len(failed)
	if len(r.Plan.VMs) > 0 {
		if len(failed) > 0 {
			r.step("vms", Failed, "%s", strings.Join(failed, "; "))
		} else {
			r.step("vms", Done, "%s moved", count(r.result.Moved, "virtual machine"))
		}
	}
	if bad := r.Plan.After.mismatches(s); len(bad) > 0 {
		r.result.Left = append(r.result.Left, bad...)
		return r.end(Unknown, fmt.Errorf("the host is on %s, but not quite as planned", r.Plan.ToSwitch))
	}
	return r.end(Applied, nil)
}

// blame keeps the latest reason of each machine that did not move.
func (r *Run) blame(tasks []editTask) {
	if r.reasons == nil {
		r.reasons = map[string]string{}
	}
	for _, t := range tasks {
		if t.err != "" {
			r.reasons[t.vm.Name] = t.err
		}
	}
}

// bringAll brings the machines that this path can plug in, and after them
// through vCenter those that only it can.
func (r *Run) bringAll(ctx context.Context, s *Snapshot, d direction) (*Snapshot, []string) {
	s, failed := r.bringVMs(ctx, s, d)
	if s == nil {
		return nil, failed
	}
	late := r.late(s, d)
	if len(late) == 0 {
		return s, failed
	}
	stay := func(why string) (*Snapshot, []string) {
		for _, name := range late {
			failed = append(failed, name+": "+why)
		}
		return s, failed
	}
	if r.Other == nil {
		return stay("only vCenter can plug it in")
	}
	r.step("vms", Started, "waiting for vCenter, which alone can plug in %s", strings.Join(late, ", "))
	through, err := r.confirmOther(ctx)
	if err != nil {
		return stay("vCenter does not answer: " + plainError(err))
	}
	r.Via, r.Other, r.tried = r.Other, r.Via, 0
	s, more := r.bringVMs(ctx, through, d)
	return s, append(failed, more...)
}

// confirmOther waits until the other path shows the host.
func (r *Run) confirmOther(ctx context.Context) (s *Snapshot, err error) {
	deadline := time.Now().Add(r.awayLimit())
	r.during("vCenter to see the host", func() {
		for {
			if s, err = r.Other.confirm(ctx); err == nil {
				return
			}
			if left := time.Until(deadline); left <= 0 || !sleep(ctx, min(rereadEvery, left)) {
				return
			}
		}
	})
	return s, err
}

// bringVMs edits what is not where it belongs until all is, three passes were
// made, or three seconds have gone by since the first. It returns the last
// snapshot, nil if the host stopped answering, and the machines that stay
// behind with the reason.
func (r *Run) bringVMs(ctx context.Context, s *Snapshot, d direction) (*Snapshot, []string) {
	for {
		late := r.late(s, d)
		left := slices.DeleteFunc(r.pending(s, d), func(name string) bool { return slices.Contains(late, name) })
		if len(left) == 0 {
			return s, nil
		}
		if r.tried > 2 || r.tried > 0 && time.Since(r.refused) > retryWithin {
			for i, name := range left {
				if why := r.reasons[name]; why != "" {
					left[i] += ": " + why
				}
			}
			return s, left
		}
		if r.tried > 0 && !sleep(ctx, time.Duration(r.tried)*500*time.Millisecond) {
			return s, left
		}
		tasks := r.editVMs(ctx, s, d)
		next, states, err := r.Via.reread(ctx, refs(tasks))
		if err == nil {
			record(tasks, states)
			r.blame(tasks)
			next, err = r.awaitTasks(ctx, next, tasks)
		} else {
			next, err = r.settle(ctx, false)
		}
		if err != nil {
			return nil, left
		}
		s = next
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
