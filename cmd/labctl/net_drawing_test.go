package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/labctl/labctl/esxi/network"
)

var ansi = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// movePlan is a plan as NewPlan makes it for a homelab host, with machines.
func movePlan(machines ...string) *network.Plan {
	dvs := network.Attachment{Kind: network.Distributed, Switch: "DVS0", Group: "DVS-Mgmt", VLAN: 20}
	std := network.Attachment{Kind: network.Standard, Switch: "vSwitch0", Group: "Management Network", VLAN: 20}
	p := &network.Plan{
		Host: "nuc01", Via: "vcenter", From: network.Distributed, To: network.Standard, FromSwitch: "DVS0", ToSwitch: "vSwitch0",
		Goal: network.Goal{Vmk: "vmk0"}, Undo: "vCenter reverts it", Fingerprint: "433c41bd3a47", Requests: 11,
		Made: network.Made{Switch: "vSwitch0", PortGroups: []string{"Management Network", "Lab"}},
		Changes: []network.Change{
			{Action: "add", Kind: "switch", Object: "vSwitch0", After: "standard switch, MTU 1500"},
			{Action: "add", Kind: "portgroup", Object: "Management Network", After: "VLAN 20 on vSwitch0, as DVS-Mgmt has it"},
			{Action: "change", Kind: "uplink", Object: "vmnic0", Before: "DVS0 (Uplink 1)", After: "vSwitch0", CutsManagement: true},
		},
		Before: network.Layout{
			Uplinks:   []network.UplinkState{{Device: "vmnic0", Switch: "DVS0", Kind: network.Distributed, Slot: "Uplink 1"}},
			Vmkernels: []network.VmkernelState{{Device: "vmk0", At: dvs, IP: "192.168.20.11"}},
		},
		After: network.Layout{
			Uplinks:   []network.UplinkState{{Device: "vmnic0", Switch: "vSwitch0", Kind: network.Standard}},
			Vmkernels: []network.VmkernelState{{Device: "vmk0", At: std, IP: "192.168.20.11"}},
		},
	}
	for _, m := range machines {
		dvs.Group, dvs.VLAN, std.Group, std.VLAN = "Lab", 30, "Lab", 30
		p.Before.NICs = append(p.Before.NICs, network.NICState{VM: m, At: dvs})
		p.After.NICs = append(p.After.NICs, network.NICState{VM: m, At: std})
	}
	return p
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "plan", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -run %s -update, and look at it):\n%s", name, t.Name(), diff)
	}
}

// A plan as people see it, on terminals of different widths, on one that draws
// in ASCII, and where there is none.
func TestPlanDrawings(t *testing.T) {
	back := movePlan("pihole", "photonbox")
	back.From, back.To, back.FromSwitch, back.ToSwitch = back.To, back.From, back.ToSwitch, back.FromSwitch
	back.Before, back.After, back.Made = back.After, back.Before, network.Made{}
	back.Changes = back.Changes[2:]
	many := movePlan(strings.Fields("vm01 vm02 vm03 vm04 vm05 vm06 vm07 vm08 vm09 vm10 vm11")...)
	unicode := ability{boxes: true}
	for name, tc := range map[string]struct {
		plan  *network.Plan
		width int
		ab    ability
	}{
		"wide.txt":    {movePlan("pihole", "photonbox"), 100, unicode},
		"80.txt":      {movePlan("pihole", "photonbox"), 80, unicode},
		"60.txt":      {movePlan("pihole", "photonbox"), 60, unicode},
		"40.txt":      {movePlan("pihole", "a machine whose name is longer than such a line"), 40, unicode},
		"20.txt":      {movePlan("pihole"), 20, unicode},
		"ascii.txt":   {movePlan("pihole", "photonbox"), 100, ability{ascii: true}},
		"outline.txt": {movePlan("pihole", "photonbox"), 0, unicode},
		"back.txt":    {back, 100, unicode},
		"many.txt":    {many, 100, unicode},
	} {
		t.Run(name, func(t *testing.T) {
			p := &page{width: tc.width, draws: tc.width > 0, ability: tc.ab}
			writePlan(p, tc.plan)
			golden(t, name, p.text())
			if tc.width == 0 {
				return
			}
			for line := range strings.Lines(p.text()) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > tc.width && tc.width >= minBox {
					t.Errorf("a line of %d characters on a terminal of %d: %s", n, tc.width, line)
				}
			}
			if tc.ab.ascii {
				for _, r := range p.text() {
					if r > 126 {
						t.Errorf("%q is not ASCII", r)
					}
				}
			}
		})
	}
}

// Colour says nothing that the words do not: without it the drawing is the same.
func TestPlanDrawingColours(t *testing.T) {
	var plainPage, coloured page
	plainPage.width, coloured.width, plainPage.draws, coloured.draws = 100, 100, true, true
	plainPage.ability = ability{boxes: true}
	coloured.ability, coloured.colour = ability{boxes: true, palette: ansi16}, true
	writePlan(&plainPage, movePlan("pihole"))
	writePlan(&coloured, movePlan("pihole"))
	stripped := ansi.ReplaceAllString(coloured.String(), "")
	if stripped != plainPage.String() {
		t.Errorf("with colour it is another text:\n%s", cmp.Diff(plainPage.String(), stripped))
	}
	if coloured.String() == plainPage.String() || strings.Contains(plainPage.String(), "\x1b") {
		t.Error("colour is not where it belongs")
	}
}
