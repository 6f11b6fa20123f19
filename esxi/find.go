package esxi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Wanted says which host of an inventory is meant.
type Wanted struct {
	Name    string // what the user calls it
	URLHost string // host part of the host's own URL, where one is known
}

// FindError says that no host of the inventory, or more than one, is the
// wanted one.
type FindError struct {
	Wanted     Wanted
	Candidates []string // inventory names: of the hits, else of all hosts
	Several    bool
}

func (e *FindError) Error() string {
	names, wanted := strings.Join(e.Candidates, ", "), cmp.Or(e.Wanted.Name, e.Wanted.URLHost)
	switch {
	case e.Several && wanted == "":
		return fmt.Sprintf("more than one host is there, name one: %s", names)
	case e.Several:
		return fmt.Sprintf("more than one host matches %s: %s", wanted, names)
	case names == "":
		return fmt.Sprintf("no host matches %s: the inventory holds none", wanted)
	}
	return fmt.Sprintf("no host matches %s: the inventory holds %s", wanted, names)
}

// hostPaths walks from the root folder to every host.
func hostPaths() []types.BaseSelectionSpec {
	again := &types.SelectionSpec{Name: "folder"}
	return []types.BaseSelectionSpec{
		&types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: "Folder", Path: "childEntity",
			SelectSet: []types.BaseSelectionSpec{
				again,
				&types.TraversalSpec{Type: "Datacenter", Path: "hostFolder", SelectSet: []types.BaseSelectionSpec{again}},
				&types.TraversalSpec{Type: "ComputeResource", Path: "host"},
			},
		},
	}
}

// Retrieve reads properties in one API call, and in further ones only where the
// server hands out its answer in pages. A session that has ended is a refused
// *CallError: the server itself answers such a call, with every property left
// out.
func Retrieve(ctx context.Context, vim *vim25.Client, spec types.PropertyFilterSpec) ([]types.ObjectContent, error) {
	pc := vim.ServiceContent.PropertyCollector
	res, err := methods.RetrievePropertiesEx(ctx, vim, &types.RetrievePropertiesEx{This: pc, SpecSet: []types.PropertyFilterSpec{spec}})
	if err != nil || res.Returnval == nil {
		return nil, err
	}
	page := res.Returnval
	objects := page.Objects
	for page.Token != "" {
		next, err := methods.ContinueRetrievePropertiesEx(ctx, vim, &types.ContinueRetrievePropertiesEx{This: pc, Token: page.Token})
		if err != nil {
			return nil, err
		}
		page = &next.Returnval
		objects = append(objects, page.Objects...)
	}
	for _, o := range objects {
		for _, m := range o.MissingSet {
			if name, text := FaultWords(&m.Fault); name == notAuthenticated {
				return nil, &CallError{Host: vim.URL().Host, Method: "RetrievePropertiesEx", Refused: true, Fault: name, Text: text, Err: soap.WrapVimFault(m.Fault.Fault)}
			}
		}
	}
	return objects, nil
}

// notAuthenticated is the fault of a call in a session that has ended.
const notAuthenticated = "NotAuthenticated"

// FindHost returns the host that is meant, in one API call. A host's own API
// holds one host, whatever it calls itself. In a vCenter it is the one whose
// inventory name equals the URL's host, else the name, else the one with a
// vmkernel adapter at that address. None or several are a *FindError.
func (c *Client) FindHost(ctx context.Context, w Wanted) (*object.HostSystem, error) {
	objects, err := Retrieve(ctx, c.Vim, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "HostSystem", PathSet: []string{"name", "config.network.vnic"}}},
		ObjectSet: []types.ObjectSpec{{Obj: c.Vim.ServiceContent.RootFolder, Skip: types.NewBool(true), SelectSet: hostPaths()}},
	})
	if err != nil {
		return nil, fmt.Errorf("look for host %s: %w", w.Name, err)
	}
	var hosts []mo.HostSystem
	if err := mo.LoadObjectContent(objects, &hosts); err != nil {
		return nil, fmt.Errorf("look for host %s: %w", w.Name, err)
	}
	hits := hosts
	if c.IsVCenter() {
		hits = pickHost(hosts, w)
	}
	if len(hits) == 1 {
		h := object.NewHostSystem(c.Vim, hits[0].Self)
		h.InventoryPath = hits[0].Name
		return h, nil
	}
	e := &FindError{Wanted: w, Several: len(hits) > 1}
	if !e.Several {
		hits = hosts
	}
	for _, h := range hits {
		e.Candidates = append(e.Candidates, h.Name)
	}
	slices.Sort(e.Candidates)
	return nil, e
}

// pickHost applies the three rules in order and stops at the first that hits.
func pickHost(hosts []mo.HostSystem, w Wanted) []mo.HostSystem {
	keep := func(want func(mo.HostSystem) bool) (out []mo.HostSystem) {
		for _, h := range hosts {
			if want(h) {
				out = append(out, h)
			}
		}
		return out
	}
	hasAddress := func(h mo.HostSystem) bool {
		if h.Config == nil || h.Config.Network == nil {
			return false
		}
		return slices.ContainsFunc(h.Config.Network.Vnic, func(v types.HostVirtualNic) bool {
			ip := v.Spec.Ip
			return ip != nil && ip.IpAddress != "" && (ip.IpAddress == w.URLHost || ip.IpAddress == w.Name)
		})
	}
	rules := []func(mo.HostSystem) bool{
		func(h mo.HostSystem) bool { return w.URLHost != "" && strings.EqualFold(h.Name, w.URLHost) },
		func(h mo.HostSystem) bool { return w.Name != "" && strings.EqualFold(h.Name, w.Name) },
		hasAddress,
	}
	for _, rule := range rules {
		if hits := keep(rule); len(hits) > 0 {
			return hits
		}
	}
	if w.Name == "" && w.URLHost == "" {
		return hosts
	}
	return nil
}
