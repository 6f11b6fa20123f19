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

	"github.com/labctl/labctl/esxi/vch"
)

func good() report {
	return report{
		Requests: requests{VMs: 3, Ratio: 11.8, Labctl: []labctlCount{{What: "to standard", Counted: 11, Claimed: 11}}},
		Wall:     times{RTTMs: 20, Ratio: 12},
		Outage:   []outage{{VMs: 8, HostOpMs: 700, LimitMs: 740, Labctl: spread{MedianMs: 730}, Wired: spread{MedianMs: 735}}},
		Growth:   []growth{{VMs: 3, Requests: 11, Rest: 8, Fixed: 8}, {VMs: 300, Requests: 310, Rest: 10, Looks: 2, Fixed: 8}},
		Start:    start{Ratio: 1.2},
		Memory:   memory{PeakMB: 27},
		Recipes:  &recipeChecks{Recipes: 24, First: spread{MedianMs: 100}},
		Keyboard: &keyboard{Ratio: 0.97, AddedMs: -0.2},
		VCH: &vchs{
			Counts: []vchCount{{"up", "vcenter", 24, maxUp}, {"down", "esxi", 19, maxDown}},
			Lists:  []vchList{{VMs: 1, Via: "vcenter", Requests: 4}, {VMs: 1, Via: "esxi", Requests: 5}, {VMs: 300, Via: "vcenter", Requests: 4}, {VMs: 300, Via: "esxi", Requests: 5}},
			Upload: &vchUpload{Ratio: 1},
			Many:   &vchMany{VCHs: 10, BootMs: 5000, Ratio: 1.3, RequestsOne: 25, BytesRatio: 1},
		},
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
		{"recipes", func(r *report) { r.Recipes.First.MedianMs = 201 }, "check of 24 recipes", false},
		{"proof of delivery", func(r *report) { r.Keyboard.Ratio = 0.94 }, "proof of delivery", false},
		{"pauses", func(r *report) { r.Keyboard.AddedMs = 1 }, "jitter", false},
		{"vch up", func(r *report) { r.VCH.Counts[0].Requests = 33 }, "vch up, via vcenter", true},
		{"vch down", func(r *report) { r.VCH.Counts[1].Requests = 25 }, "vch down, via esxi", true},
		{"vch ls", func(r *report) { r.VCH.Lists[0].Requests, r.VCH.Lists[2].Requests = 9, 9 }, "vch ls, 1 to 300 VMs, via vcenter", true},
		{"vch ls grows", func(r *report) { r.VCH.Lists[3].Requests = 6 }, "growth of these, via esxi", true},
		{"slow boot", func(r *report) { r.VCH.Many.RequestsOne = 33 }, "boots for 5 s", true},
		{"upload", func(r *report) { r.VCH.Upload.Ratio = 0.94 }, "plain PUT", false},
		{"bytes for ten", func(r *report) { r.VCH.Many.BytesRatio = 1.21 }, "uploaded for 10", true},
		{"time of ten", func(r *report) { r.VCH.Many.Ratio = 2.51 }, "wall time of 10", false},
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

// What could not be measured is neither met nor a failure, and stands out.
func TestSkipped(t *testing.T) {
	r := good()
	r.Keyboard = &keyboard{Skipped: "no qemu-system-x86_64"}
	r.judge()
	if r.failed(true) {
		t.Error("what was skipped counts as missed")
	}
	var b bytes.Buffer
	r.write(&b)
	if n := strings.Count(b.String(), "SKIPPED"); n != 3 || !strings.Contains(b.String(), "no qemu-system-x86_64") {
		t.Errorf("%d times SKIPPED in:\n%s", n, b.String())
	}
}

// Where the bare loop does not keep its pauses either, a difference of the two says nothing.
func TestTooBusy(t *testing.T) {
	r := good()
	r.Keyboard.BareJitterMs, r.Keyboard.AddedMs = 412, -232
	r.judge()
	for _, v := range r.Summary {
		if strings.HasPrefix(v.Requirement, "jitter") != v.Skipped || v.Skipped && v.Met {
			t.Errorf("%+v", v)
		}
	}
	var b bytes.Buffer
	r.write(&b)
	if !strings.Contains(b.String(), "too busy") {
		t.Error("the report does not say why")
	}
}

// Parts that were not asked for are neither shown nor judged.
func TestOnly(t *testing.T) {
	r := report{Recipes: good().Recipes}
	r.judge()
	var b bytes.Buffer
	r.write(&b)
	if len(r.Summary) != 1 || strings.Contains(b.String(), "Requests") {
		t.Errorf("%d verdicts in:\n%s", len(r.Summary), b.String())
	}
	var said bytes.Buffer
	if code := run([]string{"-only", "recipes,boats"}, io.Discard, &said); code != 2 || !strings.Contains(said.String(), `no part "boats"`) {
		t.Errorf("exit %d: %s", code, said.String())
	}
}

func TestReadFigures(t *testing.T) {
	const good = "goos: linux\nBenchmarkKeyboard-2 \t1\t 0.9677 proven/bare\t816.7 bare-reports/s\t855.5 proven-reports/s" +
		"\t 0.12 pause-added-p99-ms\t -0.02 pause-added-p90-ms\t 2.50 proven-pause-off-p99-ms\t 2.38 bare-pause-off-p99-ms\nPASS\n"
	k, err := readFigures(good)
	if want := (keyboard{Proven: 855.5, Bare: 816.7, Ratio: 0.9677, JitterMs: 2.5, BareJitterMs: 2.38, AddedMs: 0.12, AddedP90Ms: -0.02}); err != nil || *k != want {
		t.Errorf("%+v %v", k, err)
	}
	for _, bad := range []string{"", strings.ReplaceAll(good, "proven/bare", "else"), strings.ReplaceAll(good, "0.9677", "many")} {
		if k, err := readFigures(bad); err == nil {
			t.Errorf("%+v of %q", k, bad)
		}
	}
}

// An upload lasts from its first event to the last one, however the lines are cut on their way.
func TestEvents(t *testing.T) {
	e := &events{}
	say := func(s string) time.Time {
		if n, err := e.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
		return time.Now()
	}
	early := say(`{"event":"step"}` + "\n" + `{"event":"upl`)
	if !e.first.IsZero() {
		t.Error("half a line counts")
	}
	begun := say(`oad","total":9}` + "\n")
	time.Sleep(time.Millisecond)
	say(`{"event":"upload","done":9,"total":9}` + "\n")
	sent := time.Now()
	time.Sleep(time.Millisecond)
	answered := say(`{"event":"upload","done":9,"total":9}` + "\n" + `{"event":"step"}` + "\n")
	if e.done != 9 || e.first.Before(early) || e.first.After(begun) || e.last.Before(sent) || e.last.After(answered) {
		t.Errorf("%+v", e)
	}
}

// labctl takes the made bundle for one of a release.
func TestWriteBundle(t *testing.T) {
	dir := t.TempDir()
	if err := writeBundle(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	b, err := vch.OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := sizeOf(dir); err != nil || n != 2<<20 || b.Appliance.Size != 1<<20 || b.Version.Release != "v1.5.8" {
		t.Errorf("%d %v %+v", n, err, b)
	}
}

func TestMedianRatio(t *testing.T) {
	// The rounds are compared one by one: a machine that is slow in one of them is slow for both.
	if got := medianRatio([]time.Duration{10, 40, 10}, []time.Duration{10, 40, 20}); got != 1 {
		t.Errorf("got %v", got)
	}
	if got := medianRatio([]time.Duration{10, 20}, []time.Duration{10, 10}); got != 1.5 {
		t.Errorf("got %v", got)
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
