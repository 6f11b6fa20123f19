package gadget

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func rootWith(t *testing.T, files map[string]string) System {
	t.Helper()
	y := System{Root: t.TempDir()}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(y.at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(y.at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return y
}

// Model strings are those that the device trees of the boards carry.
func TestBoard(t *testing.T) {
	for model, want := range map[string]string{
		"Raspberry Pi Zero 2 W Rev 1.0":           "inner micro-USB",
		"Raspberry Pi Zero W Rev 1.1":             "inner micro-USB",
		"Raspberry Pi Zero Rev 1.3":               "inner micro-USB",
		"Raspberry Pi 4 Model B Rev 1.4":          "USB-C",
		"Raspberry Pi 400 Rev 1.0":                "USB-C",
		"Raspberry Pi 5 Model B Rev 1.0":          "USB-C",
		"Raspberry Pi 500 Rev 1.0":                "USB-C",
		"Raspberry Pi Compute Module 4 Rev 1.1":   "carrier",
		"Raspberry Pi Compute Module 5 Rev 1.0":   "carrier",
		"Raspberry Pi 3 Model A Plus Rev 1.0":     "A-to-A",
		"Raspberry Pi Model A Plus Rev 1.1":       "A-to-A",
		"Raspberry Pi 3 Model B Plus Rev 1.3":     "",
		"Raspberry Pi 2 Model B Rev 1.1":          "",
		"Raspberry Pi Model B Plus Rev 1.2":       "",
		"Radxa ROCK 4C Plus":                      "unknown",
		"Raspberry Pi Something Else of the 2030": "unknown",
	} {
		b, err := rootWith(t, map[string]string{"/proc/device-tree/model": model + "\x00"}).Board()
		if err != nil || b.Model != model {
			t.Errorf("%s: %q, %v", model, b.Model, err)
		}
		switch want {
		case "unknown":
			if b.Known || b.Connector != "" {
				t.Errorf("%s is taken for known", model)
			}
		case "":
			if !b.Known || b.Connector != "" {
				t.Errorf("%s can play device: %+v", model, b)
			}
		default:
			if !b.Known || !strings.Contains(b.Connector, want) || b.Power == "" {
				t.Errorf("%s: %+v", model, b)
			}
		}
	}
	if b, err := (System{Root: t.TempDir()}).Board(); err != nil || b.Known || b.Model != "" {
		t.Errorf("a PC: %+v, %v", b, err)
	}
}

func TestBootConfig(t *testing.T) {
	const set = PeripheralLine
	for name, tc := range map[string]struct {
		text    string
		filters []string
		set     bool
		against int // line
	}{
		"nothing":             {"arm_64bit=1\n", nil, false, 0},
		"set":                 {"arm_64bit=1\n" + set + "\n", nil, true, 0},
		"with blanks":         {"  dtoverlay = dwc2 , dr_mode=peripheral\r\n", nil, true, 0},
		"a comment":           {"#" + set + "\n", nil, false, 0},
		"another overlay":     {"dtoverlay=dwc2x,dr_mode=peripheral\n", nil, false, 0},
		"for another board":   {"[cm5]\n" + set + "\n", []string{"pi4"}, false, 0},
		"for this board":      {"[PI4]\n" + set + "\n", []string{"pi4"}, true, 0},
		"after all":           {"[cm5]\ndtoverlay=dwc2,dr_mode=host\n[all]\n" + set + "\n", []string{"pi4"}, true, 0},
		"by a pin":            {"[gpio4=1]\n" + set + "\n", []string{"pi4"}, false, 0},
		"as a host":           {"dtoverlay=dwc2,dr_mode=host\n", nil, false, 1},
		"without a mode":      {"[all]\ndtoverlay=dwc2\n", nil, false, 2},
		"undone below":        {set + "\ndtoverlay=dwc2,dr_mode=host\n", nil, false, 2},
		"mended below":        {"dtoverlay=dwc2\n" + set + "\n", nil, true, 0},
		"the other driver":    {set + "\n\notg_mode=1\n", nil, true, 3},
		"the other driver CM": {"[cm4]\notg_mode=1\n[all]\n" + set + "\n", []string{"pi4"}, true, 0},
		"ditto on one":        {"[cm4]\notg_mode=1\n[all]\n" + set + "\n", []string{"pi4", "cm4"}, true, 2},
	} {
		got := readBootConfig(tc.text, tc.filters)
		if got.Set != tc.set || got.Line != tc.against || (got.Against == "") != (tc.against == 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	y := rootWith(t, map[string]string{"/boot/firmware/config.txt": set, "/boot/config.txt": "moved"})
	if c, err := y.BootConfig(Board{}); err != nil || c.File != "/boot/firmware/config.txt" || !c.Set {
		t.Errorf("Debian 12: %+v, %v", c, err)
	}
	y = rootWith(t, map[string]string{"/boot/config.txt": set})
	if c, err := y.BootConfig(Board{}); err != nil || c.File != "/boot/config.txt" || !c.Set {
		t.Errorf("Debian 11: %+v, %v", c, err)
	}
	if c, err := (System{Root: t.TempDir()}).BootConfig(Board{}); err != nil || c.File != "" {
		t.Errorf("no Pi: %+v, %v", c, err)
	}
}

func TestModule(t *testing.T) {
	const dir = "/lib/modules/6.12.1/"
	y := rootWith(t, map[string]string{
		"/proc/sys/kernel/osrelease":       "6.12.1\n",
		"/sys/module/libcomposite/refcnt":  "0\n",
		dir + "modules.builtin":            "kernel/fs/configfs/configfs.ko\n",
		dir + "modules.dep":                "kernel/drivers/usb/dwc2/dwc2.ko.xz: kernel/a/udc-core.ko.xz\nkernel/f/usb_f_hid.ko: x\nkernel/a/udc-core.ko.xz:\n",
		"/lib/modules/6.1.0/modules.dep":   "kernel/old.ko:\n",
		"/lib/modules/6.1.0/modules.alias": "",
	})
	for name, want := range map[string]Module{"libcomposite": Loaded, "configfs": Loaded, "dwc2": Available, "usb_f_hid": Available, "udc_core": Available, "old": Missing, "f_hid": Missing} {
		if got, err := y.Module(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := (System{Root: t.TempDir()}).Module("dwc2"); err != nil || got != Missing {
		t.Errorf("a machine without modules: %v, %v", got, err)
	}
}

func FuzzBootConfig(f *testing.F) {
	f.Add("[pi4]\n" + PeripheralLine + "\notg_mode=1\n[all]")
	f.Fuzz(func(t *testing.T, text string) {
		c := readBootConfig(text, []string{"pi4"})
		if c.Against == "" != (c.Line == 0) || c.Line > strings.Count(text, "\n")+1 {
			t.Errorf("%+v", c)
		}
		// What doctor says to add has to satisfy doctor.
		again := readBootConfig(text+"\n[all]\n"+PeripheralLine+"\n", []string{"pi4"})
		if !again.Set {
			t.Errorf("the line is added, and still not seen: %+v", again)
		}
	})
}
