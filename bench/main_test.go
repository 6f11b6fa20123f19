package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func good() report {
	return report{
		Requests: requests{VMs: 3, Ratio: 11.8, Labctl: []labctlCount{{What: "to standard", Counted: 11, Claimed: 11}}},
		Wall:     times{RTTMs: 20, Ratio: 12},
		Outage:   []outage{{VMs: 8, HostOpMs: 700, LimitMs: 740, Labctl: spread{MedianMs: 730}, Wired: spread{MedianMs: 735}}},
		Growth:   []growth{{VMs: 3, Requests: 11, Rest: 8, Fixed: 8}, {VMs: 300, Requests: 310, Rest: 10, Looks: 2, Fixed: 8}},
		Start:    start{Ratio: 1.2},
		Memory:   memory{PeakMB: 27},
	}
}

// Each limit can be missed alone, and what that means for the exit code depends on what kind of limit it is.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(*report)
		missed string // part of the requirement
		firm   bool
	}{
		{"nothing", func(*report) {}, "", false},
		{"requests", func(r *report) { r.Requests.Labctl[0].Counted, r.Requests.Labctl[0].Claimed = 14, 14 }, "requests to standard", true},
		{"13 requests", func(r *report) { r.Requests.Labctl[0].Counted, r.Requests.Labctl[0].Claimed = 13, 13 }, "", false},
		{"slow host", func(r *report) {
			r.Requests.Labctl = append(r.Requests.Labctl, labctlCount{What: "slow", HostOpMs: 700, Counted: 15, Claimed: 15})
		}, "requests slow", false},
		{"own count", func(r *report) { r.Requests.Labctl[0].Claimed = 10 }, "own count", true},
		{"ratio of requests", func(r *report) { r.Requests.Ratio = 11.4 }, "requests of govc", true},
		{"wall time", func(r *report) { r.Wall.Ratio = 9.9 }, "wall time", false},
		{"outage", func(r *report) { r.Outage[0].Labctl.MedianMs = 741 }, "outage of the last", false},
		{"outage on the wire", func(r *report) { r.Outage[0].Wired.MedianMs = 741 }, "over a wire", false},
		{"growth", func(r *report) { r.Growth[1].Fixed = 9 }, "growth", true},
		{"fewer also is no constant", func(r *report) { r.Growth[1].Fixed = 7 }, "growth", true},
		{"looks", func(r *report) { r.Growth[1].Rest = 11 }, "most requests beyond", false},
		{"a size that fails", func(r *report) { r.Growth[1] = growth{VMs: 300, Failed: "no"} }, "did not succeed", true},
		{"start", func(r *report) { r.Start.Ratio = 1.6 }, "start of", false},
		{"memory", func(r *report) { r.Memory.PeakMB = 40 }, "memory", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good()
			c.spoil(&r)
			r.judge()
			var missed []string
			for _, v := range r.Summary {
				if !v.Met {
					missed = append(missed, v.Requirement)
				}
			}
			if c.missed == "" {
				if len(missed) > 0 || r.failed(true) {
					t.Fatalf("missed %q", missed)
				}
				return
			}
			if len(missed) != 1 || !strings.Contains(missed[0], c.missed) {
				t.Fatalf("missed %q, want the one with %q", missed, c.missed)
			}
			if r.failed(false) != c.firm {
				t.Errorf("fails without -strict: %v, want %v", !c.firm, c.firm)
			}
			if !r.failed(true) {
				t.Error("does not fail with -strict")
			}
		})
	}
}

func TestWriteMarksWhatIsMissed(t *testing.T) {
	r := good()
	r.Requests.Labctl[0].Counted = 14
	r.judge()
	var b bytes.Buffer
	r.write(&b)
	var missed []string
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, "NOT MET") {
			missed = append(missed, strings.Fields(line)[0])
		}
	}
	if !slices.Equal(missed, []string{"requests", "migrations"}) {
		t.Errorf("marked %q in:\n%s", missed, b.String())
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct{ in, want []time.Duration }{
		{nil, []time.Duration{0}},
		{[]time.Duration{9, 1, 5}, []time.Duration{5}},
		{[]time.Duration{8, 1, 4, 100}, []time.Duration{6}},
	} {
		if got := median(c.in); got != c.want[0] {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.want[0])
		}
	}
}

func TestLooks(t *testing.T) {
	for calls, want := range map[string]int{
		"": 0,
		"Login RetrievePropertiesEx RetrievePropertiesEx UpdateNetworkConfig ReconfigVM_Task ReconfigVM_Task RetrievePropertiesEx Logout":      0,
		"Login RetrievePropertiesEx UpdateNetworkConfig ReconfigVM_Task RetrievePropertiesEx RetrievePropertiesEx RetrievePropertiesEx Logout": 2,
		"Login ReconfigVM_Task RetrievePropertiesEx CreateFilter WaitForUpdatesEx WaitForUpdatesEx RetrievePropertiesEx Logout":                4,
		"Login ReconfigVM_Task RetrievePropertiesEx ContinueRetrievePropertiesEx Logout":                                                       0,
		"Login RetrievePropertiesEx ReconfigVM_Task Logout":                                                                                    0,
	} {
		if got := looks(strings.Fields(calls)); got != want {
			t.Errorf("%s: %d looks, want %d", calls, got, want)
		}
	}
}

const twoVMs = `{"hosts": [{"name": "nuc01", "management": {"switchKind": "distributed", "vlan": 20, "reachable": true}, "vms": [
	{"name": "a", "nics": [{"switchKind": "distributed", "portgroup": "Lab", "lit": true, "darkMs": 3}]},
	{"name": "b", "nics": [{"switchKind": "distributed", "portgroup": "Lab", "lit": true}, {"switchKind": "distributed", "portgroup": "VM Network", "lit": true, "darkMs": 7}]}]}],
	"dvs": [{"name": "DVS0", "portgroups": [{"name": "DVS-Mgmt", "vlan": 20}, {"name": "Lab", "vlan": 30}, {"name": "VM Network", "vlan": 0}]}]}`

func twoVMState(t *testing.T) *state {
	t.Helper()
	var s state
	if err := json.Unmarshal([]byte(twoVMs), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestSequence(t *testing.T) {
	var got []string
	for _, c := range sequence(twoVMState(t), byName("nuc01"), map[string]bool{"host.vnic.info": true}) {
		got = append(got, strings.Join(c.args, "|"))
	}
	want := []string{
		"host.vswitch.info|-host|nuc01",
		"host.portgroup.info|-host|nuc01",
		"dvs.portgroup.info|DVS0",
		"host.esxcli|-host|nuc01|network|vswitch|dvs|vmware|list",
		"host.vswitch.add|-host|nuc01|-mtu|1500|vSwitch0",
		"host.portgroup.add|-host|nuc01|-vswitch|vSwitch0|-vlan|20|Management Network",
		"host.portgroup.add|-host|nuc01|-vswitch|vSwitch0|-vlan|30|Lab std",
		"host.portgroup.add|-host|nuc01|-vswitch|vSwitch0|VM Network std",
		"vm.network.change|-vm|a|-net|Lab std|ethernet-0",
		"vm.network.change|-vm|b|-net|Lab std|ethernet-0",
		"vm.network.change|-vm|b|-net|VM Network std|ethernet-1",
		"host.vswitch.info|-host|nuc01",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMoved(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*host)
		want  string
	}{
		{"nothing", func(*host) {}, ""},
		{"switch", func(h *host) { h.Management.SwitchKind = "standard" }, "vmk0 is on a standard switch"},
		{"reach", func(h *host) { h.Management.Reachable = false }, "vmk0 is unreachable"},
		{"a VM is gone", func(h *host) { h.VMs = h.VMs[:1] }, "1 VMs instead of 2"},
		{"second card", func(h *host) { h.VMs[1].NICs[1].SwitchKind = "standard" }, "b was left behind"},
		{"dark", func(h *host) { h.VMs[0].NICs[0].Lit = false }, "a was left behind"},
	} {
		h := &twoVMState(t).Hosts[0]
		c.spoil(h)
		if got := h.moved("distributed", 2); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if c.want == "" && h.lastLight() != 7*time.Millisecond {
			t.Errorf("the last VM waited %v, want 7 ms", h.lastLight())
		}
	}
}

// A wire carries everything in order, no sooner than a cable of its length could: one round trip to open the
// connection, one for question and answer.
func TestWire(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	const length = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	w, err := lay(ctx, echo.Addr().String(), length)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 2*length {
		t.Errorf("the answer came after %v, sooner than the wire allows", took)
	}
	if !bytes.Equal(got, sent) {
		t.Error("the bytes were changed on the way")
	}
	cancel()
	for range 100 { // the listener is closed beside us
		if _, err = net.Dial("tcp", w.Addr().String()); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the wire outlives its context")
}
