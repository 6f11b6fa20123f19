package sim

import (
	"errors"
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// refusal is an operation turned down: the fault that the API answers with, and the reason in words, which the real
// product mostly keeps to itself.
type refusal struct {
	fault types.BaseMethodFault
	why   string
}

func (r *refusal) Error() string { return r.why }

func refuse(f types.BaseMethodFault, format string, args ...any) error {
	return &refusal{fault: f, why: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return refuse(&types.NotFound{}, format, args...)
}

func alreadyExists(name string) error {
	return refuse(&types.AlreadyExists{Name: name}, "%s already exists", name)
}

func inUse(kind, name, format string, args ...any) error {
	return refuse(&types.ResourceInUse{Type: kind, Name: name}, format, args...)
}

func invalid(property, format string, args ...any) error {
	return refuse(&types.InvalidArgument{InvalidProperty: property}, format, args...)
}

func notSupported(format string, args ...any) error {
	return refuse(&types.NotSupported{}, format, args...)
}

// faultOf is the API fault of an error; errors that are not refusals are the simulator's own failures.
func faultOf(err error) types.BaseMethodFault {
	if err == nil {
		return nil
	}
	var r *refusal
	if errors.As(err, &r) {
		return r.fault
	}
	return &types.SystemError{Reason: err.Error()}
}

func soapFault(err error) *soap.Fault { return simulator.Fault(err.Error(), faultOf(err)) }
