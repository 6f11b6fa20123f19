package sim

import (
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// What a host's console turns on and off is there for the API too: the shell, SSH and lockdown mode.

// The keys of services, as hostd calls them.
const (
	serviceConsole = "DCUI"
	serviceShell   = "TSM"
	serviceSSH     = "TSM-SSH"
)

// consoleTimeOut is the option that says after how many seconds an idle console logs out; 600 is ESXi's default.
const consoleTimeOut = "UserVars.DcuiTimeOut"

// consoleAccess is the option that lists who may log in at the console in lockdown mode.
const consoleAccess = "DCUI.Access"

func (y *system) services() types.HostServiceInfo {
	one := func(key, label string, running bool) types.HostService {
		policy := types.HostServicePolicyOff
		if running {
			policy = types.HostServicePolicyOn
		}
		return types.HostService{Key: key, Label: label, Running: running, Policy: string(policy)}
	}
	return types.HostServiceInfo{Service: []types.HostService{
		one(serviceConsole, "Direct Console UI", true), one(serviceShell, "ESXi Shell", y.shell), one(serviceSSH, "SSH", y.ssh),
	}}
}

func (y *system) lockdownMode() types.HostLockdownMode {
	if y.lockdown {
		return types.HostLockdownModeLockdownNormal
	}
	return types.HostLockdownModeLockdownDisabled
}

// addServices gives a host of an inventory the manager of its services, which vcsim only names.
func (in *inventory) addServices(manager **types.ManagedObjectReference) {
	ref := in.reg.Put(new(mo.HostServiceSystem)).Reference()
	*manager = &ref
}

// publishSystem shows how a host is apart from its network.
func (in *inventory) publishSystem(h *host) {
	hs := in.hosts[h.name]
	info := h.system.services()
	in.update(hs, prop("config.service", &info), prop("config.lockdownMode", h.system.lockdownMode()))
	if m, ok := in.reg.Get(*hs.ConfigManager.ServiceSystem).(*mo.HostServiceSystem); ok {
		in.update(m, prop("serviceInfo", info))
	}
}

// setSystem changes a host by the path of this inventory.
func (a *api) setSystem(hostName string, change func(*system) error) *soap.Fault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.direct() {
		if err := s.connected(hostName); err != nil {
			return soapFault(err)
		}
	}
	var err error
	s.alter(hostName, func(y *system) { err = change(y) })
	if err != nil {
		return soapFault(err)
	}
	return nil
}

// runService starts or stops a service; to stop the console is to pull its plug, which the lab does not play.
func (a *api) runService(this types.ManagedObjectReference, key string, on bool) *soap.Fault {
	return a.setSystem(a.hostOf(this), func(y *system) error {
		switch key {
		case serviceShell:
			y.shell = on
		case serviceSSH:
			y.ssh = on
		case serviceConsole:
			if !on {
				return notSupported("the direct console of this host cannot be stopped")
			}
		default:
			return notFound("there is no service %q", key)
		}
		return nil
	})
}

func (a *api) StartService(req *types.StartService) soap.HasFault {
	fault := a.runService(req.This, req.Id, true)
	return &methods.StartServiceBody{Fault_: fault, Res: result(fault, &types.StartServiceResponse{})}
}

func (a *api) StopService(req *types.StopService) soap.HasFault {
	fault := a.runService(req.This, req.Id, false)
	return &methods.StopServiceBody{Fault_: fault, Res: result(fault, &types.StopServiceResponse{})}
}

func (a *api) RefreshServices(req *types.RefreshServices) soap.HasFault {
	fault := a.setSystem(a.hostOf(req.This), func(*system) error { return nil })
	return &methods.RefreshServicesBody{Fault_: fault, Res: result(fault, &types.RefreshServicesResponse{})}
}

// lockdown is a matter between the vCenter and the host: root in a session of its own cannot turn it on.
func (a *api) lockdown(this types.ManagedObjectReference, on bool) *soap.Fault {
	if a.direct() {
		return soapFault(notSupported("lockdown mode is set through the vCenter"))
	}
	return a.setSystem(a.nameOf(this), func(y *system) error {
		switch {
		case on && y.lockdown:
			return refuse(&types.HostConfigFault{}, "the host is in lockdown mode already")
		case !on && !y.lockdown:
			return refuse(&types.HostConfigFault{}, "the host is not in lockdown mode")
		}
		y.lockdown = on
		return nil
	})
}

func (a *api) EnterLockdownMode(req *types.EnterLockdownMode) soap.HasFault {
	fault := a.lockdown(req.This, true)
	return &methods.EnterLockdownModeBody{Fault_: fault, Res: result(fault, &types.EnterLockdownModeResponse{})}
}

func (a *api) ExitLockdownMode(req *types.ExitLockdownMode) soap.HasFault {
	fault := a.lockdown(req.This, false)
	return &methods.ExitLockdownModeBody{Fault_: fault, Res: result(fault, &types.ExitLockdownModeResponse{})}
}
