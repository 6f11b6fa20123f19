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
	keys  hid.Decoder
	mods  byte      // that are down
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
	for _, e := range c.keys.Decode(hid.Report(report)) {
		if bit, ok := modifier(e.Key); ok {
			c.mods &^= bit
			if e.Down {
				c.mods |= bit
			}
		} else if e.Down {
			deeds = append(deeds, c.Key(byte(e.Key), c.mods)...)
		}
	}
	return deeds
}

// modifier gives the bit of one of the eight modifier keys, usages 0xE0 to 0xE7 of the keyboard page.
func modifier(u hid.Usage) (bit byte, ok bool) {
	if u < 0xE0 || u > 0xE7 {
		return 0, false
	}
	return 1 << (u - 0xE0), true
}

func (c *console) Key(usage, modifiers byte) []sim.Deed {
	c.rest()
	before := c.world
	c.last = time.Now()
	c.world = before.Press(hid.Chord{Mods: hid.Mods(modifiers), Key: hid.Usage(usage)})
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
	c.world, c.keys, c.mods = c.world.Booted(), hid.Decoder{}, 0
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
