package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labctl/labctl/esxi/network"
)

// A plan as two pictures, before and after: each switch with its uplinks, its
// port groups, and what is plugged into them. Only what moves is drawn, as the
// plan knows nothing else. On a terminal they are boxes, side by side where
// there is room; elsewhere, and for a terminal that cannot draw, the same in
// indented lines, which a screen reader reads and grep finds.

type drawnSwitch struct {
	name    string
	kind    network.Kind
	isNew   bool
	uplinks string
	groups  []drawnGroup
}

type drawnGroup struct {
	name    string
	vlan    int
	isNew   bool
	plugged []string // vmkernel adapters with their addresses, then machines
	vms     int
}

// mostPlugged is how many machines of a port group are drawn by name.
const mostPlugged = 8

// drawnBefore and drawnAfter sort one side of a plan by switches, in the order
// from, to.
func drawnBefore(p *network.Plan) []drawnSwitch {
	out := drawnSide(p, &p.Before)
	if p.Made.Switch == p.ToSwitch {
		out = slices.DeleteFunc(out, func(s drawnSwitch) bool { return s.is(p.ToSwitch, p.To) })
	}
	for i := range out {
		if out[i].is(p.ToSwitch, p.To) && len(out[i].groups) == 0 {
			out[i].uplinks = "as it is"
		}
	}
	return out
}

func drawnAfter(p *network.Plan) []drawnSwitch {
	out := drawnSide(p, &p.After)
	for i := range out {
		s := &out[i]
		if !s.is(p.ToSwitch, p.To) {
			continue
		}
		s.isNew = p.Made.Switch == s.name
		for j := range s.groups {
			s.groups[j].isNew = slices.ContainsFunc(p.Changes, func(c network.Change) bool {
				return c.Action == "add" && c.Kind == "portgroup" && c.Object == s.groups[j].name
			})
		}
	}
	return out
}

func (s *drawnSwitch) is(name string, kind network.Kind) bool {
	return s.name == name && s.kind == kind
}

func drawnSide(p *network.Plan, l *network.Layout) []drawnSwitch {
	var out []drawnSwitch
	at := func(name string, kind network.Kind) *drawnSwitch {
		for i := range out {
			if out[i].is(name, kind) {
				return &out[i]
			}
		}
		out = append(out, drawnSwitch{name: name, kind: kind, uplinks: "no uplink"})
		return &out[len(out)-1]
	}
	at(p.FromSwitch, p.From)
	at(p.ToSwitch, p.To)
	for _, u := range l.Uplinks {
		if u.Switch == "" {
			continue
		}
		s, text := at(u.Switch, u.Kind), u.Device
		if u.Slot != "" {
			text += " (" + u.Slot + ")"
		}
		if s.uplinks == "no uplink" {
			s.uplinks = "uplink " + text
		} else {
			s.uplinks += ", " + text
		}
	}
	plug := func(k network.Kind, name, group string, vlan int, what string, vm bool) {
		s := at(name, k)
		i := slices.IndexFunc(s.groups, func(g drawnGroup) bool { return g.name == group })
		if i < 0 {
			i = len(s.groups)
			s.groups = append(s.groups, drawnGroup{name: group, vlan: vlan})
		}
		g := &s.groups[i]
		switch {
		case slices.Contains(g.plugged, what):
		case !vm:
			g.plugged = append(g.plugged, what)
		default:
			if g.vms++; g.vms <= mostPlugged {
				g.plugged = append(g.plugged, what)
			}
		}
	}
	for _, v := range l.Vmkernels {
		plug(v.At.Kind, v.At.Switch, v.At.Group, v.At.VLAN, strings.TrimSpace(v.Device+" "+v.IP), false)
	}
	for _, n := range l.NICs {
		plug(n.At.Kind, n.At.Switch, n.At.Group, n.At.VLAN, n.VM, true)
	}
	for i := range out {
		for j := range out[i].groups {
			if g := &out[i].groups[j]; g.vms > mostPlugged {
				g.plugged = append(g.plugged, fmt.Sprintf("and %d more", g.vms-mostPlugged))
			}
		}
	}
	return out
}

func drawnVLAN(id int) string {
	switch id {
	case 0:
		return "no VLAN"
	case 4095:
		return "trunk"
	}
	return fmt.Sprintf("VLAN %d", id)
}

func drawnTitle(s *drawnSwitch) string {
	title := fmt.Sprintf("%s, %s", s.name, s.kind)
	if s.isNew {
		title += ", new"
	}
	return title
}

func (g *drawnGroup) title() string {
	if g.isNew {
		return g.name + ", new"
	}
	return g.name
}

// outline is both pictures in indented lines.
func outline(p *network.Plan) (lines []string) {
	for _, side := range []struct {
		name     string
		switches []drawnSwitch
	}{{"before", drawnBefore(p)}, {"after", drawnAfter(p)}} {
		lines = append(lines, side.name)
		for _, s := range side.switches {
			lines = append(lines, fmt.Sprintf("  %s: %s", drawnTitle(&s), s.uplinks))
			for _, g := range s.groups {
				lines = append(lines, fmt.Sprintf("    %s, %s: %s", g.title(), drawnVLAN(g.vlan), strings.Join(g.plugged, ", ")))
			}
		}
	}
	return lines
}

// minBox is the narrowest box that says anything, frame included, and drawnGap
// what stands between two.
const (
	minBox   = 24
	drawnGap = 5
)

// drawPlan draws both pictures into a canvas of at most width cells: side by
// side where they fit without being cut, else one below the other. It is nil
// where there is no room for either.
func drawPlan(p *network.Plan, width int) *canvas {
	const indent = 2
	before, after := drawnBefore(p), drawnAfter(p)
	natural := max(boxWidth(before), boxWidth(after))
	room := width - indent
	if room < minBox {
		return nil
	}
	if 2*natural+drawnGap <= room {
		c := newCanvas(indent+2*natural+drawnGap, 1+max(boxHeight(before), boxHeight(after)))
		second := indent + natural + drawnGap
		c.put(indent, 0, natural, lookBold, "before")
		c.put(second, 0, natural, lookBold, "after")
		drawSwitches(c, indent, 1, natural, before)
		c.set(indent+natural+drawnGap/2, 2, '→', lookBold)
		drawSwitches(c, second, 1, natural, after)
		return c
	}
	box := min(natural, room)
	c := newCanvas(indent+box, 2+boxHeight(before)+boxHeight(after))
	c.put(indent, 0, box, lookBold, "before")
	y := drawSwitches(c, indent, 1, box, before)
	c.put(indent, y, box, lookBold, "after")
	drawSwitches(c, indent, y+1, box, after)
	return c
}

// boxWidth is what the widest line of any box takes, frame included.
func boxWidth(switches []drawnSwitch) int {
	w := minBox
	for i := range switches {
		s := &switches[i]
		w = max(w, 6+utf8.RuneCountInString(drawnTitle(s)), 4+utf8.RuneCountInString(s.uplinks))
		for _, g := range s.groups {
			w = max(w, 4+utf8.RuneCountInString(g.title())+2+len(drawnVLAN(g.vlan)))
			for _, what := range g.plugged {
				w = max(w, 6+utf8.RuneCountInString(what))
			}
		}
	}
	return w
}

func boxHeight(switches []drawnSwitch) (h int) {
	for _, s := range switches {
		h += 3
		for i, g := range s.groups {
			if i == 0 {
				h++ // the line below the uplinks
			}
			h += 1 + len(g.plugged)
		}
	}
	return h
}

// drawSwitches draws a box for each, and returns the row below.
func drawSwitches(c *canvas, x, y, w int, switches []drawnSwitch) int {
	inner := w - 4
	for i := range switches {
		s := &switches[i]
		h := boxHeight(switches[i : i+1])
		frame(c, x, y, w, h, shortened(drawnTitle(s), w-6))
		l := look{}
		if s.uplinks == "no uplink" {
			l = lookDim
		}
		c.put(x+2, y+1, inner, l, shortened(s.uplinks, inner))
		row := y + 2
		for j, g := range s.groups {
			if j == 0 {
				for k := 1; k < w-1; k++ {
					c.set(x+k, row, '─', lookDim)
				}
				c.set(x, row, '├', lookDim)
				c.set(x+w-1, row, '┤', lookDim)
				row++
			}
			vlan := drawnVLAN(g.vlan)
			c.put(x+2, row, inner, look{}, shortened(g.title(), inner-len(vlan)-1))
			c.put(x+w-2-len(vlan), row, len(vlan), lookDim, vlan)
			row++
			for _, what := range g.plugged {
				c.put(x+4, row, inner-2, look{}, shortened(what, inner-2))
				row++
			}
		}
		y += h
	}
	return y
}

// shortened cuts text that is longer than width, and shows that it did.
func shortened(text string, width int) string {
	r := []rune(text)
	if len(r) <= width || width < 1 {
		return text
	}
	return string(r[:width-1]) + "…"
}

// drawing puts the pictures of a plan onto a page.
func (p *page) drawing(plan *network.Plan) {
	if p.draws {
		if c := drawPlan(plan, p.width); c != nil {
			if !p.colour {
				for i := range c.cells {
					c.cells[i].look = look{}
				}
			}
			for _, line := range c.lines(p.ability) {
				p.WriteString(line + "\n")
			}
			return
		}
	}
	for _, line := range outline(plan) {
		p.printf("  %s\n", line)
	}
}
