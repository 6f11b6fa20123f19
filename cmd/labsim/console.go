package main

import (
	"image"
	"strings"
	"time"

	"github.com/labctl/labctl/esxi/sim"
	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// console is a machine's DCUI with a keyboard plugged into it.
type console struct {
	world dcui.World
	keys  dcui.Receiver
	last  time.Time // of the last key
}

func newConsole(m sim.Machine) (sim.Console, error) {
	w, err := dcui.NewWorld(m.Facts)
	if err != nil {
		return nil, err
	}
	return &console{world: w.SetPassword(m.Password), last: time.Now()}, nil
}

func (c *console) Report(report [8]byte) []sim.Deed {
	var deeds []sim.Deed
	for _, chord := range c.keys.Take(hid.Report(report)) {
		deeds = append(deeds, c.press(chord)...)
	}
	return deeds
}

func (c *console) Key(usage, modifiers byte) []sim.Deed {
	return c.press(hid.Chord{Mods: hid.Mods(modifiers), Key: hid.Usage(usage)})
}

func (c *console) press(chord hid.Chord) []sim.Deed {
	c.rest()
	before := c.world
	c.last = time.Now()
	c.world = before.Press(chord)
	effects := c.world.Effects()
	if len(effects) == 0 {
		return nil
	}
	var deeds []sim.Deed
	for i := len(effects) - 1; i >= 0; i-- { // the worst last: a restart ends what else a key did
		d := sim.Deed{What: effects[i].String()}
		switch effects[i] {
		case dcui.NetworkChanged:
			d.Settings = c.world.Confirmed(before)
		case dcui.DistributedRestored:
			d.Settings = before.Restoring()
		case dcui.PasswordChanged:
			d.Password = c.world.RootPassword()
		case dcui.SystemReset:
			c.world = c.world.SetPassword("")
		}
		deeds = append(deeds, d)
	}
	c.Learn(nil)
	return deeds
}

// rest logs out where nobody has touched a key for long.
func (c *console) rest() {
	if time.Since(c.last) > dcui.DefaultIdle {
		c.world, c.last = c.world.Idle(), time.Now()
	}
}

// Learn never fails on the lab's own facts.
func (c *console) Learn(facts map[string]string) {
	if w, err := c.world.Settle(facts); err == nil {
		c.world = w
	}
}

func (c *console) Boot() {
	c.world, c.keys = c.world.Booted(), dcui.Receiver{}
}

func (c *console) View() sim.View {
	c.rest()
	screen := c.world.Render()
	text := strings.Split(strings.TrimSuffix(screen.Text(), "\n"), "\n")
	return sim.View{Screen: c.world.At(), LEDs: c.world.LEDs(), Text: text}
}

func (c *console) Picture() image.Image {
	c.rest()
	screen := c.world.Render()
	return picture(&screen)
}
