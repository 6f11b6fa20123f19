// Swap does the one step for which govc has no command: it takes vmk0 and the only uplink of a host from the
// distributed switch to a standard one that exists. It stands for the shell commands that a govc user has to run on
// the host, so that what comes after them can be measured.
//
// It fails if the vCenter refuses, and for any address but loopback: it is for simulated hosts only. It reads
// GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD, as govc does.
package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: swap HOST VSWITCH PORTGROUP")
		os.Exit(2)
	}
	if err := swap(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "swap:", err)
		os.Exit(1)
	}
}

func swap(name, vswitch, portgroup string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	u, err := url.Parse(os.Getenv("GOVC_URL"))
	if err != nil {
		return fmt.Errorf("reading GOVC_URL: %w", err)
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%q is not a loopback address", u.Hostname())
	}
	c, err := vim25.NewClient(ctx, soap.NewClient(u, true)) // no pin: nobody is between a machine and itself
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	login := url.UserPassword(os.Getenv("GOVC_USERNAME"), os.Getenv("GOVC_PASSWORD"))
	if err := session.NewManager(c).Login(ctx, login); err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	host, err := find.NewFinder(c).HostSystem(ctx, "/*/host/*/"+name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	ns, err := host.ConfigManager().NetworkSystem(ctx)
	if err != nil {
		return fmt.Errorf("finding the network of %s: %w", name, err)
	}
	var has mo.HostNetworkSystem
	if err := ns.Properties(ctx, ns.Reference(), []string{"networkInfo"}, &has); err != nil {
		return fmt.Errorf("reading the network of %s: %w", name, err)
	}
	config, err := change(has.NetworkInfo, vswitch, portgroup)
	if err != nil {
		return err
	}
	_, err = methods.UpdateNetworkConfig(ctx, c, &types.UpdateNetworkConfig{
		This: ns.Reference(), Config: *config, ChangeMode: string(types.HostConfigChangeModeModify),
	})
	if err != nil {
		return fmt.Errorf("changing the network of %s: %w", name, err)
	}
	// The session is left to end by itself: from here on the VMs are dark, and a farewell would be counted against govc.
	return nil
}

func change(n *types.HostNetworkInfo, vswitch, portgroup string) (*types.HostNetworkConfig, error) {
	if len(n.ProxySwitch) != 1 || len(n.ProxySwitch[0].Pnic) != 1 {
		return nil, fmt.Errorf("the host is not on one distributed switch with one uplink")
	}
	proxy := n.ProxySwitch[0]
	device := ""
	for _, p := range n.Pnic {
		if p.Key == proxy.Pnic[0] {
			device = p.Device
		}
	}
	c := &types.HostNetworkConfig{
		ProxySwitch: []types.HostProxySwitchConfig{{
			ChangeOperation: string(types.HostConfigChangeOperationEdit), Uuid: proxy.DvsUuid,
			Spec: &types.HostProxySwitchSpec{Backing: &types.DistributedVirtualSwitchHostMemberPnicBacking{}},
		}},
	}
	for _, v := range n.Vswitch {
		if v.Name == vswitch {
			spec := v.Spec
			spec.Bridge = &types.HostVirtualSwitchBondBridge{NicDevice: []string{device}}
			if spec.Policy != nil && spec.Policy.NicTeaming != nil {
				spec.Policy.NicTeaming.NicOrder = &types.HostNicOrderPolicy{ActiveNic: []string{device}}
			}
			c.Vswitch = append(c.Vswitch, types.HostVirtualSwitchConfig{
				ChangeOperation: string(types.HostConfigChangeOperationEdit), Name: vswitch, Spec: &spec,
			})
		}
	}
	for _, v := range n.Vnic {
		if v.Spec.DistributedVirtualPort != nil {
			c.Vnic = append(c.Vnic, types.HostVirtualNicConfig{
				ChangeOperation: string(types.HostConfigChangeOperationEdit), Device: v.Device, Portgroup: portgroup,
				Spec: &types.HostVirtualNicSpec{Portgroup: portgroup},
			})
		}
	}
	if device == "" || len(c.Vswitch) != 1 || len(c.Vnic) == 0 {
		return nil, fmt.Errorf("the host has no uplink, no %s or no vmkernel adapter to move", vswitch)
	}
	return c, nil
}
