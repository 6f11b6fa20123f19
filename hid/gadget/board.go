package gadget

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Board is what is known of a Raspberry Pi as a USB device. The zero Board is a
// machine that is none, or one that is not known.
type Board struct {
	Model string // as the device tree has it, "" where there is none
	// Connector is the one of its connectors that can play device, "" where the
	// model is known to have none: there a hub sits between it and the processor.
	Connector string
	Known     bool
	// Power says how to feed the board so that neither it nor the host feeds the
	// other by accident.
	Power string

	filters []string // of config.txt that apply to it
}

// Where a board takes its power, by kind of connector. A cable's 5 V wire is
// called VBUS.
const (
	powerApart = "power it at its PWR port, and let the cable to the host carry no 5 V (VBUS cut): else the two supplies meet, or the board dies with the host's USB power"
	powerSame  = "the port to the host is also the power input: power the board by its GPIO header or PoE, and let the cable to the host carry no 5 V (VBUS cut)"
	powerPins  = "the port to the host is also the power input: power the board by its GPIO header, and let the cable to the host carry no 5 V (VBUS cut)"
	powerPlain = "power it at its own input, and let the cable to the host carry no 5 V (VBUS cut): else the two supplies meet"
)

// boards are the models by the words of their device trees, the first that fits.
// Which have a port for it is Raspberry Pi's documentation of dwc2; filters are
// its section on conditional filters in config.txt.
var boards = []struct {
	model string
	Board
}{
	{"Raspberry Pi Zero 2", Board{Connector: "the inner micro-USB port, marked USB", Power: powerApart, filters: []string{"pi0", "pi0w", "pi02"}}},
	{"Raspberry Pi Zero W", Board{Connector: "the inner micro-USB port, marked USB", Power: powerApart, filters: []string{"pi0", "pi0w"}}},
	{"Raspberry Pi Zero", Board{Connector: "the inner micro-USB port, marked USB", Power: powerApart, filters: []string{"pi0"}}},
	{"Raspberry Pi 3 Model A Plus", Board{Connector: "the USB-A port, with an A-to-A cable", Power: powerPlain, filters: []string{"pi3", "pi3+"}}},
	{"Raspberry Pi Model A", Board{Connector: "the USB-A port, with an A-to-A cable", Power: powerPlain, filters: []string{"pi1"}}},
	{"Raspberry Pi 400", Board{Connector: "the USB-C power port", Power: powerPins, filters: []string{"pi4", "pi400"}}},
	{"Raspberry Pi 4", Board{Connector: "the USB-C power port", Power: powerSame, filters: []string{"pi4"}}},
	{"Raspberry Pi Compute Module 4S", Board{Connector: "the USB device port of its carrier board", Power: powerPlain, filters: []string{"pi4", "cm4s"}}},
	{"Raspberry Pi Compute Module 4", Board{Connector: "the USB device port of its carrier board", Power: powerPlain, filters: []string{"pi4", "cm4"}}},
	{"Raspberry Pi Compute Module 5", Board{Connector: "the USB device port of its carrier board", Power: powerPlain, filters: []string{"pi5", "cm5"}}},
	{"Raspberry Pi 500", Board{Connector: "the USB-C power port", Power: powerPins, filters: []string{"pi5", "pi500"}}},
	{"Raspberry Pi 5", Board{Connector: "the USB-C power port", Power: powerSame, filters: []string{"pi5"}}},
	{"Raspberry Pi 3 Model B", Board{filters: []string{"pi3"}}},
	{"Raspberry Pi 2 Model B", Board{filters: []string{"pi2"}}},
	{"Raspberry Pi Model B", Board{filters: []string{"pi1"}}},
}

// Board finds out which board this is.
func (y System) Board() (Board, error) {
	model, err := y.read("/proc/device-tree/model")
	if err != nil {
		return Board{}, fmt.Errorf("reading the board's model: %w", err)
	}
	model = strings.TrimRight(model, "\x00")
	for _, b := range boards {
		if strings.HasPrefix(model, b.model) {
			b.Board.Model, b.Known = model, true
			return b.Board, nil
		}
	}
	return Board{Model: model}, nil
}

// PeripheralLine is what makes a Raspberry Pi's port play device. Without the
// mode it would offer to be a host as well, and some firmware refuses that.
const PeripheralLine = "dtoverlay=dwc2,dr_mode=peripheral"

// BootConfig is what a Raspberry Pi's config.txt says of the port.
type BootConfig struct {
	File string // "" where there is none
	// Set: a line puts the port in device mode.
	Set bool
	// Against is a line that undoes it, or asks for something else, and Line its
	// number from 1; "" is none.
	Against string
	Line    int
}

// BootConfig reads config.txt as the board's firmware would: only sections that
// apply to the board count. It is in /boot/firmware since Debian 12; a file in
// /boot is then only a note that says so.
func (y System) BootConfig(b Board) (BootConfig, error) {
	for _, file := range []string{"/boot/firmware/config.txt", "/boot/config.txt"} {
		text, err := os.ReadFile(y.at(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return BootConfig{}, fmt.Errorf("reading the boot configuration: %w", err)
		}
		c := readBootConfig(string(text), b.filters)
		c.File = file
		return c, nil
	}
	return BootConfig{}, nil
}

func readBootConfig(text string, filters []string) BootConfig {
	var c BootConfig
	applies := true
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if section, ok := strings.CutPrefix(line, "["); ok {
			section = strings.ToLower(strings.TrimSuffix(section, "]"))
			// Filters by serial number, monitor or pin are not for the keyboard's line.
			applies = section == "all" || slices.Contains(filters, section)
			continue
		}
		if !applies {
			continue
		}
		key, value, _ := strings.Cut(strings.ReplaceAll(line, " ", ""), "=")
		switch {
		case key == "otg_mode" && value == "1":
			c.Against, c.Line = line, n
		case key == "dtoverlay" && (value == "dwc2" || strings.HasPrefix(value, "dwc2,")):
			if c.Set = strings.Contains(value, "dr_mode=peripheral"); c.Set {
				if strings.HasPrefix(c.Against, "dtoverlay") {
					c.Against, c.Line = "", 0 // the last of them counts
				}
			} else {
				c.Against, c.Line = line, n
			}
		}
	}
	return c
}

// Module is how far a kernel module is.
type Module int

// States of a module.
const (
	Missing Module = iota // this kernel has none of that name
	Available
	Loaded // or built in
)

// Module tells how far the kernel module of that name is, spelled with
// underscores.
func (y System) Module(name string) (Module, error) {
	if _, err := os.Stat(y.at(path.Join("/sys/module", name))); err == nil {
		return Loaded, nil
	}
	release, err := y.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return Missing, fmt.Errorf("reading the kernel's release: %w", err)
	}
	for _, list := range []struct {
		file  string
		state Module
	}{{"modules.builtin", Loaded}, {"modules.dep", Available}} {
		text, err := y.read(path.Join("/lib/modules", release, list.file))
		if err != nil {
			return Missing, fmt.Errorf("looking for kernel module %s: %w", name, err)
		}
		for line := range strings.Lines(text) {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			base, _, _ := strings.Cut(path.Base(file), ".ko")
			if strings.ReplaceAll(base, "-", "_") == name {
				return list.state, nil
			}
		}
	}
	return Missing, nil
}
