package sim

import (
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// keyboardPage is the HID usage page of a keyboard. A scan code has it in its lower half and the usage in its upper.
const keyboardPage = 7

// PutUsbScanCodes types keys into a VM, each pressed and released with its modifiers, and gives the number of those
// that it could make sense of. A VM without a console of the lab's takes them too: nobody sees what it makes of them.
func (a *api) PutUsbScanCodes(req *types.PutUsbScanCodes) soap.HasFault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := func(err error) soap.HasFault { return &methods.PutUsbScanCodesBody{Fault_: soapFault(err)} }
	v := s.world.vm(a.ids[req.This])
	if v == nil {
		return refused(refuse(&types.ManagedObjectNotFound{Obj: req.This}, "there is no VM %s", req.This.Value))
	}
	if !a.direct() {
		if err := s.connected(v.host); err != nil {
			return refused(err)
		}
	}
	if !v.on {
		return refused(poweredOff(v))
	}
	var done int32
	for _, e := range req.Spec.KeyEvents {
		code := uint32(e.UsbHidCode)
		if code&0xffff != keyboardPage || code>>16 == 0 || code>>16 > 0xff {
			continue
		}
		done++
		if d := s.deskOf(v); d != nil {
			// One that is off was refused above, and one that boots takes keys and ignores them.
			_ = s.key(d, func(c Console) []Deed { return c.Key(byte(code>>16), modifiers(e.Modifiers)) })
		}
	}
	return &methods.PutUsbScanCodesBody{Res: &types.PutUsbScanCodesResponse{Returnval: done}}
}

// modifiers gives the first byte of a boot keyboard's report.
func modifiers(m *types.UsbScanCodeSpecModifierType) (b byte) {
	if m == nil {
		return 0
	}
	for i, down := range []*bool{m.LeftControl, m.LeftShift, m.LeftAlt, m.LeftGui, m.RightControl, m.RightShift, m.RightAlt, m.RightGui} {
		if down != nil && *down {
			b |= 1 << i
		}
	}
	return b
}

func (s *site) deskOf(v *vm) *desk {
	for _, d := range s.desks {
		if d.vm == v.id {
			return d
		}
	}
	return nil
}
