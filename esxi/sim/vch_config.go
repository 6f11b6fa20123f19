package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// ovfEnvKey is the key that vSphere keeps from readers of the API: the guest sees it, and so does who may download
// the VM's .vmx file.
const ovfEnvKey = "guestinfo.ovfEnv"

// timeless is the modification time of what is made up on the spot.
var timeless time.Time

// takeHidden takes ovfEnv out of a list of settings, and settings that delete what does not exist.
func takeHidden(list []types.BaseOptionValue, have map[string]bool) (rest []types.BaseOptionValue, hidden *string) {
	for _, o := range list {
		v := o.GetOptionValue()
		text, _ := v.Value.(string)
		switch {
		case v.Key == ovfEnvKey:
			hidden = &text
		case text == "" && v.Value != nil && !have[v.Key]:
		default:
			rest = append(rest, o)
		}
	}
	return rest, hidden
}

// touchesGuest says whether settings are among those a guest reads.
func touchesGuest(list []types.BaseOptionValue) bool {
	return slices.ContainsFunc(list, func(o types.BaseOptionValue) bool { return strings.HasPrefix(o.GetOptionValue().Key, "guestinfo.") })
}

// keysOf lists the keys that a VM has.
func keysOf(obj *simulator.VirtualMachine) map[string]bool {
	keys := map[string]bool{}
	for _, o := range obj.Config.ExtraConfig {
		keys[o.GetOptionValue().Key] = true
	}
	return keys
}

// keep stores a VM's ovfEnv. The site's lock is held.
func (s *site) keep(id string, hidden *string) {
	switch {
	case hidden == nil:
	case *hidden == "":
		delete(s.ovfEnv, id)
	default:
		s.ovfEnv[id] = *hidden
	}
}

// settings reads all of a VM's ExtraConfig as its guest would. The site's lock is held.
func (s *site) settings(id string) map[string]string {
	keys := map[string]string{}
	v := s.world.vm(id)
	if v == nil {
		return keys
	}
	in := s.direct[v.host]
	obj, ok := in.reg.Get(in.refs[id]).(*simulator.VirtualMachine)
	if !ok {
		return keys
	}
	in.reg.WithLock(in.context(), obj, func() {
		for _, o := range obj.Config.ExtraConfig {
			v := o.GetOptionValue()
			keys[v.Key] = fmt.Sprint(v.Value)
		}
	})
	if env, ok := s.ovfEnv[id]; ok {
		keys[ovfEnvKey] = env
	}
	return keys
}

// vmx renders the configuration file at a datastore path, if it is a VM's.
func (s *site) vmx(file string) (string, bool) {
	if !strings.HasSuffix(file, ".vmx") {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.world.vms {
		in := s.direct[v.host]
		obj, ok := in.reg.Get(in.refs[v.id]).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		keys := s.settings(v.id)
		var own string
		in.reg.WithLock(in.context(), obj, func() {
			own = obj.Config.Files.VmPathName
			keys["guestOS"] = strings.ToLower(strings.TrimSuffix(obj.Config.GuestId, "Guest"))
			keys["memSize"] = fmt.Sprint(obj.Config.Hardware.MemoryMB)
			keys["uuid.bios"] = obj.Config.Uuid
		})
		if own != file {
			continue
		}
		keys["displayName"] = v.name
		names := make([]string, 0, len(keys))
		for k := range keys {
			names = append(names, k)
		}
		slices.Sort(names)
		var b strings.Builder
		b.WriteString(".encoding = \"UTF-8\"\nconfig.version = \"8\"\n")
		for _, k := range names {
			fmt.Fprintf(&b, "%s = \"%s\"\n", k, vmxText(keys[k]))
		}
		return b.String(), true
	}
	return "", false
}

// vmxText escapes what would end a value or a line, by a bar and two hexadecimal digits as VMware does.
func vmxText(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c == '"' || c == '|' || c == 0x7f {
			fmt.Fprintf(&b, "|%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// write has a guest change its own keys, which both inventories tell about. The site's lock is held.
func (s *site) write(id string, keys map[string]string) error {
	v := s.world.vm(id)
	if v == nil {
		return notFound("the VM is gone")
	}
	names := make([]string, 0, len(keys))
	for k := range keys {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, in := range []*inventory{s.direct[v.host], s.vcenter} {
		obj, ok := in.reg.Get(in.refs[id]).(*simulator.VirtualMachine)
		if !ok {
			return notFound("the VM is gone")
		}
		var spec types.VirtualMachineConfigSpec
		for _, k := range names {
			spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: k, Value: keys[k]})
		}
		if _, err := in.task(obj.ReconfigVMTask(in.context(), &types.ReconfigVM_Task{This: obj.Self, Spec: spec})); err != nil {
			return fmt.Errorf("writing a guest's keys: %w", err)
		}
	}
	return nil
}
