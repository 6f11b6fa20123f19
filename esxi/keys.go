package esxi

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// ErrKeyUnanswered says that the answer to a key was lost: nobody knows whether
// the machine took it, so it must not be sent again.
var ErrKeyUnanswered = errors.New("no answer came: the key may have arrived or not")

// PutKey types one key into a virtual machine: pressed with its modifiers, and
// released. Usage is of the HID keyboard page, modifiers are the first byte of a
// boot keyboard's report. It is sent once, whatever happens, and alone, since
// servers were seen to drop keys of a batch. The error is ErrKeyUnanswered when
// the key may have arrived; any other means that it did not. No error tells
// which key it was.
func PutKey(ctx context.Context, vim *vim25.Client, vm types.ManagedObjectReference, usage, modifiers byte) error {
	spec := types.UsbScanCodeSpec{KeyEvents: []types.UsbScanCodeSpecKeyEvent{{
		UsbHidCode: int32(usage)<<16 | 7, // page 7: keyboard
		Modifiers:  keyModifiers(modifiers),
	}}}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("type a key into the virtual machine: %w", err)
	}
	res, err := methods.PutUsbScanCodes(ctx, vim, &types.PutUsbScanCodes{This: vm, Spec: spec})
	switch {
	case err == nil && res.Returnval == 1:
		return nil
	case err == nil:
		return fmt.Errorf("type a key into the virtual machine: the server took %d of 1", res.Returnval)
	}
	var call *CallError
	if errors.As(err, &call) && call.Refused {
		return fmt.Errorf("type a key into the virtual machine: %w", err)
	}
	return fmt.Errorf("type a key into the virtual machine: %w: %w", ErrKeyUnanswered, err)
}

func keyModifiers(m byte) *types.UsbScanCodeSpecModifierType {
	if m == 0 {
		return nil
	}
	bit := func(i int) *bool { return types.NewBool(m&(1<<i) != 0) }
	return &types.UsbScanCodeSpecModifierType{
		LeftControl: bit(0), LeftShift: bit(1), LeftAlt: bit(2), LeftGui: bit(3),
		RightControl: bit(4), RightShift: bit(5), RightAlt: bit(6), RightGui: bit(7),
	}
}
