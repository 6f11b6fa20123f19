package esxi

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestPickHost(t *testing.T) {
	host := func(name string, ips ...string) mo.HostSystem {
		h := mo.HostSystem{}
		h.Name = name
		h.Config = &types.HostConfigInfo{Network: &types.HostNetworkInfo{}}
		for _, ip := range ips {
			h.Config.Network.Vnic = append(h.Config.Network.Vnic, types.HostVirtualNic{Spec: types.HostVirtualNicSpec{Ip: &types.HostIpConfig{IpAddress: ip}}})
		}
		h.Config.Network.Vnic = append(h.Config.Network.Vnic, types.HostVirtualNic{}) // an adapter without an address
		return h
	}
	bare := mo.HostSystem{}
	bare.Name = "disconnected"
	rack := []mo.HostSystem{host("nuc01.lab.local", "192.168.20.11", "10.0.0.1"), host("nuc02.lab.local", "192.168.20.12"), host("192.168.20.13"), bare}
	twins := []mo.HostSystem{host("nuc", "192.168.20.11"), host("NUC", "192.168.20.12")}
	for _, tc := range []struct {
		name  string
		hosts []mo.HostSystem
		want  Wanted
		hits  string
	}{
		{"by the URL's host", rack, Wanted{"any", "nuc02.lab.local"}, "nuc02.lab.local"},
		{"in other letters", rack, Wanted{"any", "NUC02.Lab.Local"}, "nuc02.lab.local"},
		{"by name", rack, Wanted{"nuc01.lab.local", "elsewhere"}, "nuc01.lab.local"},
		{"the URL's host goes before the name", rack, Wanted{"nuc01.lab.local", "nuc02.lab.local"}, "nuc02.lab.local"},
		{"by a vmkernel adapter", rack, Wanted{"nuc01", "192.168.20.11"}, "nuc01.lab.local"},
		{"by another vmkernel adapter", rack, Wanted{"nuc01", "10.0.0.1"}, "nuc01.lab.local"},
		{"by a vmkernel adapter as name", rack, Wanted{"192.168.20.12", ""}, "nuc02.lab.local"},
		{"an address that is an inventory name", rack, Wanted{"x", "192.168.20.13"}, "192.168.20.13"},
		{"not by part of a name", rack, Wanted{"nuc01", ""}, ""},
		{"none", rack, Wanted{"nuc09", "nuc09.lab.local"}, ""},
		{"several of one name", twins, Wanted{"nuc", ""}, "NUC,nuc"},
		{"one address of several", twins, Wanted{"x", "192.168.20.12"}, "NUC"},
		{"nothing wanted, one there", rack[:1], Wanted{}, "nuc01.lab.local"},
		{"nothing wanted, several there", rack[:2], Wanted{}, "nuc01.lab.local,nuc02.lab.local"},
		{"an empty inventory", nil, Wanted{"nuc01", "nuc01"}, ""},
	} {
		var got []string
		for _, h := range pickHost(tc.hosts, tc.want) {
			got = append(got, h.Name)
		}
		slices.Sort(got)
		if s := strings.Join(got, ","); s != tc.hits {
			t.Errorf("%s: %q, want %q", tc.name, s, tc.hits)
		}
	}
}

func TestFindError(t *testing.T) {
	for want, e := range map[string]*FindError{
		"no host matches nuc01: the inventory holds none":     {Wanted: Wanted{Name: "nuc01"}},
		"no host matches nuc01: the inventory holds a, b":     {Wanted: Wanted{Name: "nuc01"}, Candidates: []string{"a", "b"}},
		"more than one host matches nuc01: nuc01, nuc01 (1)":  {Wanted: Wanted{Name: "nuc01"}, Candidates: []string{"nuc01", "nuc01 (1)"}, Several: true},
		"more than one host is there, name one: a, b":         {Candidates: []string{"a", "b"}, Several: true},
		"no host matches 192.0.2.1: the inventory holds none": {Wanted: Wanted{URLHost: "192.0.2.1"}},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
