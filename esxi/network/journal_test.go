package network

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func testPlan(t testing.TB) *Plan {
	t.Helper()
	return NewPlan(nuc().snapshot(t), toStandard())
}

// begun is a journal in dir with a plan in it.
func begun(t *testing.T, dir, host string, at time.Time) *Journal {
	t.Helper()
	j, err := CreateJournal(dir, host, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	if err := j.Begin(host, map[string]Endpoint{"esxi": {URL: "https://nuc01/sdk", User: "root", Thumbprint: "AA"}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Planned(testPlan(t)); err != nil {
		t.Fatal(err)
	}
	return j
}

func reopened(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// What a later run reads is what was written: the plan above all.
func TestJournalRoundTrip(t *testing.T) {
	j := begun(t, t.TempDir(), "nuc01", noon)
	for _, r := range []Record{{Kind: "act", Act: "change", Objects: []string{"vSwitch0", "pihole"}}, {Kind: "answer", Act: "change", Error: "no answer"}, {Kind: "end", Outcome: Unknown, Left: []string{"x"}}} {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(j.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	k := reopened(t, j.Path)
	if k.Host() != "nuc01" || k.Endpoints()["esxi"].User != "root" || len(k.Records) != 5 {
		t.Errorf("read back: %s, %v, %d records", k.Host(), k.Endpoints(), len(k.Records))
	}
	want, err := json.Marshal(testPlan(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(k.Plan())
	if err != nil || string(got) != string(want) {
		t.Errorf("the plan came back changed, %v:\n%s", err, cmp.Diff(string(want), string(got)))
	}
	again := nuc()
	if err := again.apply(k.Plan().Forward.HostNetworkConfig); err != nil {
		t.Errorf("a host refuses the plan that was read back: %v", err)
	}
	if err := again.apply(k.Plan().inverseFor(again.snapshot(t)).HostNetworkConfig); err != nil {
		t.Errorf("a host refuses the inverse that was read back: %v", err)
	}
}

// What the records say about where a migration stands.
func TestJournalState(t *testing.T) {
	act := func(what string) Record { return Record{Kind: "act", Act: what} }
	end := func(o Outcome, left ...string) Record { return Record{Kind: "end", Outcome: o, Left: left} }
	for _, tc := range []struct {
		name                       string
		records                    []Record
		sent, open, undoing, clean bool
	}{
		{"planned", nil, false, false, false, false},
		{"changing", []Record{act("change")}, true, true, false, false},
		{"answered", []Record{act("change"), {Kind: "answer", Act: "change"}}, true, true, false, false},
		{"applied", []Record{act("change"), end(Applied)}, true, false, false, false},
		{"applied, one left", []Record{act("change"), end(Applied, "virtual machine x")}, true, true, false, false},
		{"unknown", []Record{act("change"), end(Unknown)}, true, true, false, false},
		{"rolled back", []Record{act("change"), act("undo"), end(RolledBack)}, true, false, true, false},
		{"undoing", []Record{act("change"), end(Applied), act("undo")}, true, true, true, false},
		{"undoing machines", []Record{act("change"), act("undo vms")}, true, true, true, false},
		{"finishing after that", []Record{act("undo"), end(Unknown), act("vms")}, true, true, false, false},
		{"cleaned up", []Record{act("change"), end(Applied), {Kind: "cleanup", Objects: []string{"x"}}}, true, false, false, true},
	} {
		j := &Journal{Records: append([]Record{{Kind: "begin"}, {Kind: "plan", Plan: &Plan{}}}, tc.records...)}
		if j.Sent() != tc.sent || j.Open() != tc.open || j.Undoing() != tc.undoing || j.CleanedUp() != tc.clean {
			t.Errorf("%s: sent %t, open %t, undoing %t, cleaned up %t", tc.name, j.Sent(), j.Open(), j.Undoing(), j.CleanedUp())
		}
	}
}

// A rescue counts until a rollback has ended it; one that the host refused has
// not.
func TestJournalRescued(t *testing.T) {
	act := func(what string) Record { return Record{Kind: "act", Act: what} }
	answer := func(what, err string) Record { return Record{Kind: "answer", Act: what, Error: err} }
	for _, tc := range []struct {
		name    string
		records []Record
		want    bool
	}{
		{"changed", []Record{act("change")}, false},
		{"rescued", []Record{act("change"), act(actRescue)}, true},
		{"resumed", []Record{act(actRescue), act(actRest)}, true},
		{"taken back", []Record{act(actRescue), act(actUndo), answer(actUndo, "")}, false},
		{"being taken back", []Record{act(actRescue), act(actUndo)}, false},
		{"not taken back", []Record{act(actRescue), act(actUndo), answer(actUndo, "it would not")}, true},
		{"not taken back, and not rescued", []Record{act("change"), act(actUndo), answer(actUndo, "it would not")}, false},
		{"finished otherwise", []Record{act(actRescue), act("vms")}, false},
	} {
		if j := (&Journal{Records: tc.records}); j.Rescued() != tc.want {
			t.Errorf("%s: %t", tc.name, j.Rescued())
		}
	}
}

// The newest plan counts: the one made once the DVS was prepared.
func TestJournalPlan(t *testing.T) {
	j := &Journal{}
	if j.Plan() != nil {
		t.Error("a plan out of nothing")
	}
	j.Records = []Record{{Kind: "begin"}, {Kind: "plan", Plan: &Plan{Host: "first"}}, {Kind: "act"}, {Kind: "plan", Plan: &Plan{Host: "second"}}, {Kind: "act"}}
	if got := j.Plan().Host; got != "second" {
		t.Errorf("the %s plan", got)
	}
}

// A crash in the middle of a line leaves a torn one: it is not read, a reader
// does not touch it, and the next record takes its place.
func TestTornLine(t *testing.T) {
	j := begun(t, t.TempDir(), "nuc01", noon)
	whole, err := os.ReadFile(j.Path)
	if err != nil {
		t.Fatal(err)
	}
	act, err := json.Marshal(Record{Time: noon, Kind: "act", Act: "change"})
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(act) + 1 { // with all of it there, the end of the line is missing
		torn := append(slices.Clone(whole), act[:cut]...)
		if err := os.WriteFile(j.Path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		k := reopened(t, j.Path)
		if len(k.Records) != 2 || k.Sent() {
			t.Fatalf("cut at %d: %d records, sent %t", cut, len(k.Records), k.Sent())
		}
		if now, _ := os.ReadFile(j.Path); string(now) != string(torn) {
			t.Fatalf("cut at %d: a reader changed the file", cut)
		}
		if err := k.Append(Record{Kind: "act", Act: "undo"}); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err := k.Append(Record{Kind: "end", Outcome: RolledBack}); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if l := reopened(t, j.Path); len(l.Records) != 4 || l.Open() || !l.Undoing() {
			t.Fatalf("cut at %d: %d records, open %t", cut, len(l.Records), l.Open())
		}
	}
}

// Two writers do not overwrite each other: the one whose view is old is told.
func TestTwoWriters(t *testing.T) {
	j := begun(t, t.TempDir(), "nuc01", noon)
	old := reopened(t, j.Path)
	if err := j.Append(Record{Kind: "act", Act: "change"}); err != nil {
		t.Fatal(err)
	}
	if err := old.Append(Record{Kind: "act", Act: "undo"}); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("an old view was written: %v", err)
	}
	if k := reopened(t, j.Path); len(k.Records) != 3 || k.Undoing() {
		t.Errorf("%d records, undoing %t", len(k.Records), k.Undoing())
	}
}

// A record that cannot be written is an error, and not among the records.
func TestJournalCannotBeWritten(t *testing.T) {
	j := begun(t, t.TempDir(), "nuc01", noon)
	j.file.Close()
	if err := j.Append(Record{Kind: "act", Act: "change"}); err == nil || len(j.Records) != 2 {
		t.Errorf("%v, %d records", err, len(j.Records))
	}
}

func TestParseJournal(t *testing.T) {
	begin := `{"time":"2026-01-02T12:00:00Z","kind":"begin","version":1,"host":"nuc01"}` + "\n"
	plan := `{"kind":"plan","plan":{"version":1}}` + "\n"
	act := `{"kind":"act","act":"change"}` + "\n"
	for _, tc := range []struct {
		name, in string
		n        int // records
		err      string
	}{
		{"begun", begin, 1, ""},
		{"whole", begin + plan + act, 3, ""},
		{"torn", begin + plan + act[:9], 2, ""},
		{"torn at once", begin[:20], 0, "no whole record"},
		{"empty", "", 0, "no whole record"},
		{"garbage", "hello\n", 0, "line 1 is not a record"},
		{"garbage inside", begin + "\x00\x00\n" + act, 0, "line 2 is not a record"},
		{"an empty line", begin + "\n" + plan, 0, "line 2 is not a record"},
		{"a plan first", plan + begin, 0, "line 1 does not begin"},
		{"no host", strings.Replace(begin, "nuc01", "", 1), 0, "line 1 does not begin"},
		{"another version", strings.Replace(begin, `"version":1`, `"version":2`, 1), 0, "version 2 is not 1"},
		{"an act before a plan", begin + act + plan, 0, "line 2 acts before there is a plan"},
		{"a plan that is none", begin + `{"kind":"plan","plan":{"forward":{"vswitch":7}}}` + "\n", 0, "line 2 is not a record"},
		{"a plan without a plan", begin + `{"kind":"plan"}` + "\n" + act, 0, "line 3 acts before there is a plan"},
	} {
		records, _, err := ParseJournal([]byte(tc.in))
		if tc.err == "" && (err != nil || len(records) != tc.n) || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %d records, %v; want %d, %q", tc.name, len(records), err, tc.n, tc.err)
		}
	}
}

func TestLatestJournal(t *testing.T) {
	dir := t.TempDir()
	if _, err := LatestJournal(filepath.Join(dir, "none"), "nuc01"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := LatestJournal(dir, "nuc01"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	first := begun(t, dir, "nuc01", noon)
	second := begun(t, dir, "nuc01", noon.Add(time.Millisecond))
	begun(t, dir, "nuc01-b", noon.Add(time.Hour)) // whose file has the same beginning
	begun(t, dir, "nuc02", noon.Add(time.Hour))
	if err := os.WriteFile(filepath.Join(dir, "nuc01-99999999T000000.000Z.txt"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LatestJournal(dir, "nuc01")
	if err != nil || got.Path != second.Path || got.Path == first.Path {
		t.Fatalf("%+v, %v", got, err)
	}
	got.Close()
	// A run that was killed before its first record was whole has begun nothing.
	torn := filepath.Join(dir, "nuc01-20260103T000000.000Z.jsonl")
	if err := os.WriteFile(torn, []byte(`{"kind":"beg`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err = LatestJournal(dir, "nuc01"); err != nil || got.Path != second.Path {
		t.Fatalf("beside a torn one: %+v, %v", got, err)
	}
	got.Close()
	// One that cannot be read may be the one that matters.
	if err := os.WriteFile(torn, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = LatestJournal(dir, "nuc01"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), torn) {
		t.Errorf("beside a broken one: %v", err)
	}
}

func TestJournalNames(t *testing.T) {
	dir := t.TempDir()
	for host, want := range map[string]string{
		"nuc01.lab.local": "nuc01.lab.local", "fe80::1": "fe80__1", "../../etc/x": "_.._etc_x", "a b": "a_b", "nüc": "n_c",
	} {
		j, err := CreateJournal(dir, host, noon)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if got := filepath.Base(j.Path); got != want+"-20260102T120000.000Z.jsonl" || filepath.Dir(j.Path) != dir {
			t.Errorf("%s: %s", host, j.Path)
		}
		if _, err := CreateJournal(dir, host, noon); err == nil {
			t.Errorf("%s: one journal over another", host)
		}
		if err := j.Discard(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(j.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: discarded, and still there", host)
		}
	}
}

func TestParsePlan(t *testing.T) {
	good, err := json.Marshal(testPlan(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePlan(good)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := json.Marshal(p); err != nil || string(back) != string(good) {
		t.Errorf("a plan came back changed, %v:\n%s", err, cmp.Diff(string(good), string(back)))
	}
	for _, tc := range []struct{ from, to, err string }{
		{`"version":1`, `"version":2`, "version is 2"},
		{`"host":"nuc01"`, `"host":""`, "is missing"},
		{`"to":"standard"`, `"to":"sideways"`, "is missing"},
		{`"via":"vcenter"`, `"via":"carrier pigeon"`, "is missing"},
		{`"forward":{`, `"forward":7,"x":{`, "not a plan"},
		{`"changes":[`, `"changes":{"x":[`, "not a plan"},
		{`{"version"`, `[{"version"`, "not a plan"},
	} {
		bad := strings.Replace(string(good), tc.from, tc.to, 1)
		if bad == string(good) {
			t.Fatalf("%s is not in a plan", tc.from)
		}
		if _, err := ParsePlan([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, want %q", tc.to, err, tc.err)
		}
	}
	if strings.Contains(string(good), `"Local"`) {
		t.Error("a saved plan holds this machine's addresses")
	}
}

// No input makes the parsers panic, and what they take they write again as it
// was.

func FuzzParsePlan(f *testing.F) {
	for _, p := range []*Plan{testPlan(f), NewPlan(standard().snapshot(f), toDistributed())} {
		b, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"version":1,"host":"h","fingerprint":"f","to":"standard","via":"esxi","forward":null,"inverse":{"vswitch":[{"spec":{"bridge":{"_typeName":"HostVirtualSwitchBondBridge"}}}]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParsePlan(in)
		if err != nil {
			return
		}
		once, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("taken, and not to be written: %v", err)
		}
		q, err := ParsePlan(once)
		if err != nil {
			t.Fatalf("written, and not taken: %v\n%s", err, once)
		}
		twice, err := json.Marshal(q)
		if err != nil || string(twice) != string(once) {
			t.Fatalf("changed on the way, %v:\n%s\n%s", err, once, twice)
		}
	})
}

func FuzzParseJournal(f *testing.F) {
	plan, err := json.Marshal(Record{Kind: "plan", Plan: testPlan(f)})
	if err != nil {
		f.Fatal(err)
	}
	begin := `{"time":"2026-01-02T12:00:00Z","kind":"begin","version":1,"host":"nuc01","endpoints":{"esxi":{"url":"u","user":"root"}}}` + "\n"
	f.Add([]byte(begin + string(plan) + "\n" + `{"kind":"act","act":"change","objects":["x"]}` + "\n" + `{"kind":"end","outcome":"unknown"}` + "\n"))
	f.Add([]byte(begin + `{"kind":"a`))
	f.Add([]byte(begin + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		records, whole, err := ParseJournal(in)
		if err != nil {
			return
		}
		if whole > len(in) || whole == 0 || in[whole-1] != '\n' || strings.Count(string(in[:whole]), "\n") != len(records) {
			t.Fatalf("%d records in %d of %d bytes", len(records), whole, len(in))
		}
		j := &Journal{Records: records}
		_, _, _, _, _ = j.Host(), j.Plan(), j.Open(), j.Undoing(), j.Endpoints()
		var out []byte
		for _, r := range records {
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatalf("taken, and not to be written: %v", err)
			}
			out = append(append(out, b...), '\n')
		}
		again, n, err := ParseJournal(out)
		if err != nil || n != len(out) || len(again) != len(records) {
			t.Fatalf("written, and not taken: %v\n%s", err, out)
		}
	})
}
