package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/esxi/network"
)

// vlanWords is a VLAN as people say it: 0 is none, 4095 is a trunk.
func vlanWords(id int) string {
	switch id {
	case 0:
		return "-"
	case 4095:
		return "trunk"
	}
	return fmt.Sprint(id)
}

// writeNetShow draws each switch with what is plugged in, the way a person
// would follow the cable: uplink, switch, port group, adapters.
func writeNetShow(p *page, r *netShowResult) {
	p.printf("%s, read via %s", r.Host, r.Via)
	if r.State != "" && r.State != "connected" {
		p.printf(" (%s)", p.paint(red, r.State))
	}
	p.printf("\n")
	link := map[string]int{}
	for _, u := range r.Uplinks {
		link[u.Device] = u.Link
	}
	for _, sw := range r.Switches {
		p.printf("\n")
		var up []string
		for _, u := range sw.Uplinks {
			if l := link[u]; l > 0 {
				up = append(up, fmt.Sprintf("%s (%d Mb/s)", u, l))
			} else {
				up = append(up, u+" (no link)")
			}
		}
		uplinks, look := strings.Join(up, ", "), plain
		if uplinks == "" {
			uplinks, look = "no uplink", yellow
		}
		p.printf("%s  %s switch, MTU %d  ←  %s\n", p.paint(bold, sw.Name), string(sw.Kind), sw.MTU, p.paint(look, uplinks))
		t := table{header: []string{"  PORT GROUP", "VLAN", "PLUGGED IN"}}
		for _, g := range sw.PortGroups {
			t.row(plain, "  "+g.Name, vlanWords(g.VLAN), dash(strings.Join(r.pluggedInto(sw, g.Name), ", ")))
		}
		t.write(p)
	}
	var loose []string
	for _, u := range r.Uplinks {
		if u.Switch == "" {
			loose = append(loose, u.Device)
		}
	}
	if len(loose) > 0 {
		p.printf("\nfree uplinks: %s\n", strings.Join(loose, ", "))
	}
}

func (r *netShowResult) pluggedInto(sw netSwitch, group string) (out []string) {
	for _, v := range r.Vmkernels {
		if v.Switch == sw.Name && v.SwitchKind == sw.Kind && v.PortGroup == group {
			out = append(out, fmt.Sprintf("%s %s", v.Device, v.IP))
		}
	}
	for _, vm := range r.VMs {
		if slices.ContainsFunc(vm.NICs, func(n netNIC) bool { return n.Switch == sw.Name && n.SwitchKind == sw.Kind && n.PortGroup == group }) {
			out = append(out, vm.Name)
		}
	}
	return out
}

var symbols = map[string]struct {
	sign string
	look style
}{"add": {"+", green}, "change": {"~", yellow}, "remove": {"-", red}}

// writePlan shows a plan the way people know it from Terraform: one signed line
// for each change, and under it what else they must know before they say yes.
func writePlan(p *page, plan *network.Plan) {
	if plan.Already {
		p.flow("", 0, 0, fmt.Sprintf("%s: %s is on %s, a %s switch, already: nothing to do", plan.Host, plan.Goal.Vmk, plan.ToSwitch, plan.To))
		return
	}
	path := "vCenter"
	if plan.Via == "esxi" {
		path = "the host itself"
	}
	what := plan.Goal.Vmk + " and its uplink"
	if plan.Rest() {
		what = "what was left behind"
	}
	p.flow("", 0, 0, fmt.Sprintf("%s: %s, from %s (%s) to %s (%s), through %s", plan.Host, what,
		dash(plan.FromSwitch), plan.From, dash(plan.ToSwitch), plan.To, path))
	p.printf("\n")
	if len(plan.Changes) > 0 {
		if !plan.Refused() {
			p.drawing(plan)
			p.printf("\n")
		}
		var t table
		cuts := false
		for _, c := range plan.Changes {
			sym := symbols[c.Action]
			after := c.After
			if c.Before != "" {
				after = c.Before + " → " + c.After
			}
			mark := " "
			if c.CutsManagement {
				mark, cuts = "!", true
			}
			t.row(sym.look, fmt.Sprintf("  %s %s %s", sym.sign, mark, kindWords(c.Kind)), c.Object, after)
		}
		t.write(p)
		if cuts {
			p.printf("\n")
			p.flow("  ! ", 4, 4, "cuts management off for a moment; all of these happen in one transaction")
		}
	}
	section := func(title string, look style, lines []string) {
		if len(lines) == 0 {
			return
		}
		p.printf("\n%s\n", p.paint(bold, title))
		for _, l := range lines {
			width := 96
			if p.width > 0 {
				width = min(width, p.width-4)
			}
			for i, part := range wrap(printable(l), width) {
				lead := "  - "
				if i > 0 {
					lead = "    "
				}
				p.printf("%s\n", p.paint(look, lead+part))
			}
		}
	}
	section("What gets lost, or changes with the switch:", plain, plan.Lost)
	section("Worth knowing:", plain, plan.Warnings)
	var refused []string
	for _, r := range plan.Refusals {
		line := fmt.Sprintf("%s: %s", r.Code, r.Reason)
		if r.Risk != "" {
			line += fmt.Sprintf(" (--accept-risk=%s goes on)", r.Risk)
		}
		refused = append(refused, line)
	}
	section("Refused:", red, refused)
	if plan.Refused() {
		return
	}
	section("If it goes wrong:", plain, []string{plan.Undo})
	p.printf("\n")
	p.flow("", 0, 0, fmt.Sprintf("%s, %d API requests; fingerprint %.12s", summary(plan.Changes), plan.Requests, plan.Fingerprint))
}

func kindWords(kind string) string {
	switch kind {
	case "portgroup":
		return "port group"
	case "vm":
		return "virtual machine"
	}
	return kind
}

func summary(changes []network.Change) string {
	n := map[string]int{}
	for _, c := range changes {
		n[c.Action]++
	}
	return fmt.Sprintf("%d to add, %d to change, %d to remove", n["add"], n["change"], n["remove"])
}

// netStep is an event of a run under a name that does not hide its own field
// Event.
type netStep = network.Event

type netEvent struct {
	netStep
	Host      string `json:"host"`
	ElapsedMs int64  `json:"elapsedMs"`
}

// runView shows a run as it goes: text lines with the time since its start, or
// JSON events.
func (a *app) runView(host string) func(network.Event) {
	bar := liveLine{a: a}
	var moving time.Duration // when machines began to move
	return func(e network.Event) {
		if a.json() {
			// A broken pipe must not stop a run in the middle.
			_ = a.event(netEvent{netStep: e, Host: host, ElapsedMs: e.Elapsed.Milliseconds()})
			return
		}
		if e.Event == "progress" {
			bar.draw(&progressBar{what: "  virtual machines", done: int64(e.Done), total: int64(e.Total), took: e.Elapsed - moving, unit: func(n int64) string { return fmt.Sprint(n) }})
			return
		}
		bar.end()
		if e.Step == "vms" && e.State == network.Started {
			moving = e.Elapsed
		}
		mark, look := "·", plain
		switch {
		case e.Event == "wait":
			mark, look = "…", yellow
		case e.Event == "note":
			mark = "i"
		case e.State == network.Done:
			mark, look = "✓", green
		case e.State == network.Failed:
			mark, look = "✗", red
		}
		step := e.Step
		if e.Event != "step" {
			step = e.Event
		}
		lead, text := fmt.Sprintf("  %s %s %-8s ", clock(e.Elapsed), a.errStyle(look, mark), step), []string{e.Text}
		if w := a.columns(a.stderr) - visible(lead); w >= minCell {
			text = wrap(printable(e.Text), w)
		}
		a.progress("%s", lead+strings.Join(text, "\n"+strings.Repeat(" ", visible(lead))))
	}
}

// clock is the time since a run began, in seconds with tenths or better.
func clock(d time.Duration) string { return fmt.Sprintf("%7.3fs", d.Seconds()) }
