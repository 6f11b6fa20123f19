package esxi

import (
	"context"
	"errors"
	"testing"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// keyTaker answers PutUsbScanCodes.
type keyTaker struct {
	events []types.UsbScanCodeSpecKeyEvent
	calls  int
	took   int32
	err    error
}

func (k *keyTaker) RoundTrip(_ context.Context, req, res soap.HasFault) error {
	k.calls++
	k.events = append(k.events, req.(*methods.PutUsbScanCodesBody).Req.Spec.KeyEvents...)
	res.(*methods.PutUsbScanCodesBody).Res = &types.PutUsbScanCodesResponse{Returnval: k.took}
	return k.err
}

// A key goes out once, alone, and what is said of it is true.
func TestPutKey(t *testing.T) {
	cut := errors.New("connection reset")
	for _, tc := range []struct {
		name   string
		took   int32
		err    error
		ok     bool
		unsure bool
	}{
		{"taken", 1, nil, true, false},
		{"not taken", 0, nil, false, false},
		{"counted twice", 2, nil, false, false},
		{"refused", 0, &CallError{Refused: true, Fault: "InvalidPowerState", Err: cut}, false, false},
		{"answer lost", 0, &CallError{Err: cut}, false, true},
		{"something else", 0, cut, false, true},
	} {
		k := &keyTaker{took: tc.took, err: tc.err}
		err := PutKey(t.Context(), &vim25.Client{RoundTripper: k}, types.ManagedObjectReference{Type: "VirtualMachine", Value: "7"}, 0x1b, 0x22)
		if (err == nil) != tc.ok || errors.Is(err, ErrKeyUnanswered) != tc.unsure {
			t.Errorf("%s: %v", tc.name, err)
		}
		if k.calls != 1 || len(k.events) != 1 {
			t.Fatalf("%s: %d calls with %d keys", tc.name, k.calls, len(k.events))
		}
		e := k.events[0]
		if e.UsbHidCode != 0x1b0007 || !*e.Modifiers.LeftShift || !*e.Modifiers.RightShift || *e.Modifiers.LeftAlt || *e.Modifiers.RightGui {
			t.Errorf("%s: code %#x, modifiers %+v", tc.name, e.UsbHidCode, e.Modifiers)
		}
	}
	k := &keyTaker{took: 1}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := PutKey(ctx, &vim25.Client{RoundTripper: k}, types.ManagedObjectReference{}, 4, 0); !errors.Is(err, context.Canceled) || errors.Is(err, ErrKeyUnanswered) || k.calls != 0 {
		t.Errorf("after the end: %v, %d calls", err, k.calls)
	}
	if err := PutKey(t.Context(), &vim25.Client{RoundTripper: k}, types.ManagedObjectReference{}, 4, 0); err != nil || k.events[0].Modifiers != nil {
		t.Errorf("a plain key: %v, modifiers %+v", err, k.events[0].Modifiers)
	}
}
