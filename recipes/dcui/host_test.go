package dcui

import (
	"maps"
	"strings"
	"testing"
)

// A simulated host settles after each thing that keys did to it.
func TestSettle(t *testing.T) {
	for _, tc := range []struct {
		name, facts, keys string
		learned           map[string]string
		at, fact, value   string
	}{
		{"a restored switch is how the host is", "", loginKeys + "DOWN×4 ENTER DOWN ENTER F11", nil, "restore.result", "management", "standard"},
		{"and the API may have moved it since", "", loginKeys + "DOWN×4 ENTER DOWN ENTER F11", map[string]string{"management": "distributed"}, "restore.result", "management", "distributed"},
		{"SSH stays on", "", loginKeys + "DOWN×6 ENTER DOWN ENTER", nil, "trouble", "ssh", "on"},
		{"SSH off again is an effect anew", "ssh=on", loginKeys + "DOWN×6 ENTER DOWN ENTER", nil, "trouble", "ssh", "off"},
		{"the keymap is the one that was chosen", "", loginKeys + "DOWN×5 ENTER DOWN×9 SPACE ENTER", nil, "menu", "layout", "de"},
		{"a lock light stays lit", "", "CAPS", nil, "welcome", "caps", "on"},
		{"a form keeps what is in it", "", "F2 TAB $password", nil, "login", "management", "distributed"},
	} {
		w := play(t, world(t, with(seedHost, strings.FieldsFunc(tc.facts, func(r rune) bool { return r == '=' })...)), tc.keys)
		next, err := w.Settle(tc.learned)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		value, ok := next.Now(tc.fact)
		if next.At() != tc.at || value != tc.value || !ok || next.Facts()[tc.fact] != tc.value {
			t.Errorf("%s: at %s, %s is %q", tc.name, next.At(), tc.fact, value)
		}
		if next.Effect() != Nothing || next.LEDs() != w.LEDs() || next.Value() != w.Value() {
			t.Errorf("%s: %v, lights %d, field %q", tc.name, next, next.LEDs(), next.Value())
		}
		if again, err := next.Settle(nil); err != nil || again != next {
			t.Errorf("%s: settling is not over: %v", tc.name, err)
		}
	}
	if _, err := world(t, nil).Settle(map[string]string{"ssh": "perhaps"}); err == nil {
		t.Error("a value that is none was taken")
	}
}

func TestBooted(t *testing.T) {
	w := play(t, world(t, seedHost), "CAPS NUM F12 TAB $password ENTER F11")
	if w.At() == "booting" {
		t.Fatal("Caps Lock did not keep the password from counting")
	}
	w = play(t, world(t, seedHost), "NUM F12 TAB $password ENTER F11")
	if w.At() != "booting" || w.Effect() != HostRestarted {
		t.Fatalf("%v", w)
	}
	w = w.Booted()
	if w.At() != "welcome" || w.LEDs() != 0 || w.Effect() != Nothing {
		t.Errorf("%v, lights %d", w, w.LEDs())
	}
	if w = play(t, w, loginKeys); w.At() != "menu" {
		t.Errorf("the password is another one after the restart: %v", w)
	}
}

func TestConfirmed(t *testing.T) {
	const mgmt, vlan = loginKeys + "DOWN ENTER ", `DOWN ENTER "30" ENTER `
	for _, tc := range []struct {
		name, before, keys string
		want               map[string]string
	}{
		{"nothing", "", mgmt + "ESC", map[string]string{}},
		{"not confirmed", "", mgmt + vlan + `ESC "n"`, map[string]string{}},
		{"a VLAN", "", mgmt + vlan + `ESC "y"`, map[string]string{"vlan": "30"}},
		{"a VLAN taken away", mgmt + vlan + `ESC "y"`, `ENTER DOWN ENTER BS×2 ENTER ESC "y"`, map[string]string{"vlan": ""}},
		{"the same VLAN again", mgmt + vlan + `ESC "y"`, `ENTER DOWN ENTER BS "0" ENTER ESC`, map[string]string{}},
		{"DHCP", "", mgmt + `DOWN×2 ENTER DOWN SPACE ENTER ESC "y"`, map[string]string{"ipv4": "dhcp"}},
		{"an address", "", mgmt + `DOWN×2 ENTER DOWN×3 BS×15 "192.168.20.12" ENTER ESC "y"`,
			map[string]string{"ipv4": "static", "address": "192.168.20.12", "netmask": "255.255.255.0", "gateway": "192.0.2.1"}},
		{"no address", "", mgmt + `DOWN×2 ENTER SPACE ENTER ESC "y"`, map[string]string{"ipv4": "off"}},
		{"another adapter", "", mgmt + `ENTER SPACE DOWN SPACE ENTER ESC "y"`, map[string]string{"adapters": "vusb0"}},
		{"names by DHCP", "", mgmt + `DOWN×4 ENTER SPACE ENTER ESC "y"`, map[string]string{"dns1": "", "dns2": "", "hostname": ""}},
	} {
		before := play(t, world(t, seedHost), tc.before)
		after := play(t, before, tc.keys)
		if got := after.Confirmed(before); !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v (at %s)", tc.name, got, tc.want, after.At())
		}
	}
}

func TestRestoring(t *testing.T) {
	for _, tc := range []struct {
		keys string
		want map[string]string
	}{
		{"", nil},
		{loginKeys + "DOWN×4 ENTER DOWN×2 ENTER", map[string]string{"adapters": "vmnic0", "vlan": ""}},
		{loginKeys + `DOWN×4 ENTER DOWN×2 ENTER SPACE DOWN "20"`, map[string]string{"adapters": "", "vlan": "20"}},
		{loginKeys + `DOWN×4 ENTER DOWN×2 ENTER DOWN "20" ENTER`, nil},
	} {
		if got := play(t, world(t, seedHost), tc.keys).Restoring(); !maps.Equal(got, tc.want) || (got == nil) != (tc.want == nil) {
			t.Errorf("after %q: %v, want %v", tc.keys, got, tc.want)
		}
	}
}

// The menu learns of a management network at the next login, whether the
// changes were settled in between or not.
func TestSettleKeepsWhatTheMenuShows(t *testing.T) {
	wipe := loginKeys + "DOWN ENTER×2 F11 ENTER ESC"
	w := play(t, world(t, with(seedHost, "management", "none")), wipe)
	settled, err := w.Settle(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]World{"before": w, "after": settled} {
		if got := play(t, w, "UP×9 DOWN").Selected(); got != "Network Restore Options" {
			t.Errorf("%s settling DOWN leads to %s", name, got)
		}
		if got := play(t, w, "ESC "+loginKeys+"DOWN").Selected(); got != "Configure Management Network" {
			t.Errorf("%s settling, after a new login, DOWN leads to %s", name, got)
		}
	}
	if again, err := settled.Settle(nil); err != nil || again != settled {
		t.Errorf("settled twice: %v, %v", again, err)
	}
}
