package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/labctl/labctl/configs"
)

// One table of all that can be wrong: the file, and each error as line:col and
// a part of its text, in order.
func TestConfigErrors(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"typo":              {"version: 1\nhosts:\n  - name: a\n    urll: https://x\n", "4:5 did you mean url?"},
		"unknown key":       {"version: 1\nvch: {zebra: 1}\n", "2:7 unknown key zebra in vch: known are bundle"},
		"duplicate key":     {"version: 1\nvch:\n  bundle: a\n  bundle: b\n", "4:3 the first is in line 3"},
		"tab":               {"version: 1\nhosts:\n\t- name: a\n", "3:1 a tab in the indent"},
		"unclosed":          {"version: 1\nhosts: [{name: a\n", "2:9 "},
		"not a mapping":     {"- version: 1\n", "1:1 the config wants a mapping and is a list | 1:1 version is missing"},
		"empty":             {"", "1:1 version is missing"},
		"comment only":      {"# later\n", "1:1 version is missing"},
		"windows line ends": {"version: 1\r\nhosts:\r\n  - name: a\r\n    urll: https://x\r\n", "4:5 did you mean url?"},
		"two documents":     {"version: 1\n---\nversion: 1\n", "3:1 a second document"},
		"version":           {"version: 2\n", "1:10 version 2 is not known"},
		"version as text":   {"version: \"1\"\n", "1:10 version wants a number and is text"},
		"number for text":   {"version: 1\nhosts:\n  - {name: a, user: 12}\n", "3:21 hosts[0].user wants text and is a number: put it in quotes"},
		"bool for text":     {"version: 1\nhosts:\n  - {name: a, layout: true}\n", "3:23 hosts[0].layout wants text"},
		"list for text":     {"version: 1\nhosts:\n  - {name: a, user: [x]}\n", "3:21 hosts[0].user wants text and is a list"},
		"text for list":     {"version: 1\nhosts: nuc01\n", "2:8 hosts wants a list and is text"},
		"map for list":      {"version: 1\nhosts: {name: a}\n", "2:8 hosts wants a list and is a mapping"},
		"text for map":      {"version: 1\nvcenter: https://x\n", "2:10 vcenter wants a mapping and is text"},
		"fact is a list":    {"version: 1\nhosts:\n  - name: a\n    facts: {wrap: [x]}\n", "4:19 hosts[0].facts.wrap wants one word"},
		"scheme":            {"version: 1\nhosts:\n  - name: a\n    url: http://x\n", "4:10 scheme http is not supported"},
		"password in url":   {"version: 1\nvcenter:\n  url: https://u:p@x\n", "3:8 a password in a URL"},
		"two users":         {"version: 1\nvcenter:\n  url: https://u@x\n  user: v\n", "3:8 names user u, vcenter.user another"},
		"thumbprint":        {"version: 1\nvcenter:\n  url: https://x\n  thumbprint: AA:BB\n", "4:15 neither 32 bytes (SHA-256) nor 20 bytes (SHA-1)"},
		"plain password":    {"version: 1\nhosts:\n  - name: a\n    password: hunter2\n", "4:5 use password_command"},
		"two passwords":     {"version: 1\nhosts:\n  - name: a\n    password_env: X\n    password_file: y\n", "5:20 has password_env already"},
		"no program":        {"version: 1\nhosts:\n  - name: a\n    password_command: []\n", "4:5 names no program"},
		"no name":           {"version: 1\nhosts:\n  - url: https://x\n", "3:5 hosts[0] has no name"},
		"same name":         {"version: 1\nhosts:\n  - name: a\n  - name: A\n", "4:11 a second host is called A; the first is in line 3"},
		"name of a file":    {"version: 1\nhosts:\n  - name: a.json\n", "3:11 does not end in .json"},
		"name with a slash": {"version: 1\nhosts:\n  - name: a/b\n", "3:11 letters, digits"},
		"name vcenter":      {"version: 1\nhosts:\n  - name: vcenter\n", "3:11 cannot be called vcenter"},
		"keyboard":          {"version: 1\nhosts:\n  - name: a\n    keyboard: usb\n", "4:15 a keyboard is /dev/hidg0"},
		"pace":              {"version: 1\nhosts: [{name: a, pace: {gap: fast}}]\n", "2:31 pace.gap \"fast\" is no duration"},
		"no pause":          {"version: 1\nhosts: [{name: a, pace: {hold: 0s}}]\n", "2:32 pace.hold \"0s\" is no duration"},
		"target":            {"version: 1\nvch: {target: \"ftp://x\"}\n", "2:15 scheme ftp"},
		"tag":               {"version: !!int 1\n", "1:10 tags are not understood"},
		"no such anchor":    {"version: 1\nvcenter: *lab\n", "2:10 no anchor &lab"},
		"anchor in itself":  {"version: 1\nvcenter: &a\n  <<: *a\n", "3:7 no anchor &a"},
		"all at once":       {"version: 1\nhostz: 1\nhosts:\n  - name: a\n    url: http://x\n  - name: a\n", "2:1 did you mean hosts? | 5:10 scheme http | 6:11 a second host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseConfig("x.yaml", []byte(tc.src))
			var bad fileErrors
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want errors with places", err)
			}
			want := strings.Split(tc.want, " | ")
			if len(bad.all) != len(want) {
				t.Fatalf("got %d errors, want %d:\n%v", len(bad.all), len(want), err)
			}
			for i, e := range bad.all {
				at, text, _ := strings.Cut(want[i], " ")
				if got := fmt.Sprintf("%d:%d", e.line, e.col); got != at || !strings.Contains(e.msg, text) {
					t.Errorf("got %s %s, want %s", got, e.msg, want[i])
				}
			}
		})
	}
}

// Whatever is wrong around a secret, it is not shown.
func TestConfigErrorsHideSecrets(t *testing.T) {
	for _, src := range []string{
		"version: 1\nhosts:\n  - name: a\n    password: hunter2\n",
		"version: 1\nhosts:\n  - name: a\n    passwort: hunter2\n",
		"version: 1\nhosts:\n  - name: a\n    zebra: hunter2\n",
		"version: 1\nhosts:\n  - {name: 12, password: hunter2}\n",
		"version: 1\nhosts:\n  - {name: 12, \"password\": hunter2}\n",
		"version: 1\nhosts:\n  - name: a\n\tpassword: hunter2\n",
		"version: 1\nvcenter: {url: \"https://root:hunter2@x\"}\n",
		"version: 1\nvcenter: {url: \"http://root:hunter2@x\", user: 1}\n",
		"version: 1\npassword: hunter2: x\n",
	} {
		e := testEnv(t)
		code, out, errText := invoke(t, e, "--config", writeTemp(t, "labctl.yaml", src), "config", "check", "-o", "json")
		if code != exitUsage {
			t.Errorf("%q: exit %d", src, code)
		}
		if strings.Contains(out+errText, "hunter2") {
			t.Errorf("%q is shown:\n%s%s", src, out, errText)
		}
		if !strings.Contains(errText, "^") {
			t.Errorf("%q: no line is shown:\n%s", src, errText)
		}
	}
}

// The caret stands below the faulty word, also behind a mask and a tab.
func TestCaret(t *testing.T) {
	_, _, errText := invoke(t, testEnv(t), "--config", writeTemp(t, "c.yaml", "version: 1\nvcenter: {url: \"https://u:secret@x\", user: 12}\n"), "config", "check")
	lines := strings.Split(errText, "\n")
	for i, line := range lines {
		if strings.Contains(line, "vcenter.user wants") {
			text, caret := []rune(lines[i+1]), []rune(lines[i+2])
			if at := len(caret) - 1; string(text[at:at+2]) != "12" {
				t.Errorf("the caret is off:\n%s\n%s", lines[i+1], lines[i+2])
			}
			return
		}
	}
	t.Errorf("no error found in %q", errText)
}

func TestConfigExample(t *testing.T) {
	f, err := parseConfig("/etc/lab/labctl.yaml", []byte(configs.Example))
	if err != nil {
		t.Fatal(err)
	}
	// It shows every key, so that nobody has to search the schema.
	var missing func(v reflect.Value, name string)
	seen := map[string]bool{}
	for name := range f.at {
		for _, i := range []string{"[0]", "[1]", "[2]"} {
			name = strings.ReplaceAll(name, i, "")
		}
		seen[name] = true
	}
	missing = func(v reflect.Value, name string) {
		for _, field := range reflect.VisibleFields(v.Type()) {
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if tag == "" {
				continue
			}
			inner := strings.TrimPrefix(name+"."+tag, ".")
			// One block can show only one source of a password.
			elsewhere := strings.HasPrefix(tag, "password_") && (seen["vcenter."+tag] || seen["hosts."+tag])
			if !seen[inner] && !elsewhere {
				t.Errorf("the example lacks %s", inner)
			}
			if field.Tag.Get("jsonschema") == "" {
				t.Errorf("%s is not documented", inner)
			}
			switch field.Type.Kind() {
			case reflect.Struct:
				missing(v.FieldByIndex(field.Index), inner)
			case reflect.Slice:
				if field.Type.Elem().Kind() == reflect.Struct {
					missing(reflect.New(field.Type.Elem()).Elem(), inner)
				}
			}
		}
	}
	missing(reflect.ValueOf(f.Config), "")

	if got, want := f.VCH.Bundle, "/etc/lab/vic"; got != want {
		t.Errorf("bundle %s, want %s: relative to the file", got, want)
	}
	if got, want := f.Hosts[1].PasswordFile, "/etc/lab/nuc02.password"; got != want {
		t.Errorf("password_file %s, want %s", got, want)
	}
}

// Anchors and merge keys work as YAML users expect, and a fact keeps the text
// it was written with.
func TestConfigAnchors(t *testing.T) {
	f, err := parseConfig("x.yaml", []byte(`version: 1
hosts:
  - &nuc
    name: nuc01
    user: root
    facts: {wrap: no, esxi: 6.0, Shell: off}
  - <<: *nuc
    name: nuc02
    password_command: [pass, show, 'a b']
`))
	if err != nil {
		t.Fatal(err)
	}
	want := HostConf{Name: "nuc02", Access: Access{User: "root", PasswordCommand: []string{"pass", "show", "a b"}},
		Facts: map[string]string{"wrap": "no", "esxi": "6.0", "Shell": "off"}}
	if diff := cmp.Diff(want, f.Hosts[1]); diff != "" {
		t.Error(diff)
	}
}

func testFlags(args ...string) *pflag.FlagSet {
	a := &app{env: new(env)}
	a.root()
	if err := a.flags.Parse(args); err != nil {
		panic(err) // the caller's own arguments
	}
	return a.flags
}

// Flag over environment over file over default, and each says where it is from.
func TestPrecedence(t *testing.T) {
	const file = "version: 1\nvcenter: {url: https://file}\n"
	for _, tc := range []struct {
		name, file string
		vars       []string
		args       []string
		key, want  string
		origin     string
	}{
		{"default", "", nil, nil, "output", "text", "default"},
		{"env", "", []string{"LABCTL_OUTPUT=json"}, nil, "output", "json", "env LABCTL_OUTPUT"},
		{"flag", "", []string{"LABCTL_OUTPUT=json"}, []string{"-o", "text"}, "output", "text", "flag --output"},
		{"empty env", "", []string{"LABCTL_OUTPUT="}, nil, "output", "text", "default"},
		{"file", file, nil, nil, "vcenter", "https://file", "file FILE:2"},
		{"env over file", file, []string{"LABCTL_VCENTER=https://env"}, nil, "vcenter", "https://env", "env LABCTL_VCENTER"},
		{"flag over all", file, []string{"LABCTL_VCENTER=https://env"}, []string{"--vcenter", "https://flag"}, "vcenter", "https://flag", "flag --vcenter"},
		{"own variable first", "", []string{"GOVC_URL=https://g", "LABCTL_URL=https://l"}, nil, "url", "https://l", "env LABCTL_URL"},
		{"the other's then", "", []string{"GOVC_URL=https://g", "LABCTL_URL="}, nil, "url", "https://g", "env GOVC_URL"},
		{"duration", "", []string{"LABCTL_TIMEOUT=3s"}, nil, "timeout", "3s", "env LABCTL_TIMEOUT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vars := tc.vars
			if tc.file != "" {
				path := writeTemp(t, "labctl.yaml", tc.file)
				vars = append(vars, "LABCTL_CONFIG="+path)
				tc.origin = strings.Replace(tc.origin, "FILE", path, 1)
			}
			s, err := loadSettings(testFlags(tc.args...), testEnv(t, vars...))
			if err != nil {
				t.Fatal(err)
			}
			got, key := "", tc.key
			switch key {
			case "output":
				got = s.Output
			case "url":
				got = s.URL
			case "timeout":
				got = s.Timeout.String()
			case "vcenter":
				got, key = s.VCenter.URL, "vcenter.url"
			}
			if got != tc.want || s.origins[key] != tc.origin {
				t.Errorf("got %s from %s, want %s from %s", got, s.origins[key], tc.want, tc.origin)
			}
		})
	}
}

// A vCenter that a flag names must not get the credentials of the file's, while
// the same one under another spelling keeps them.
func TestOtherVCenterGetsNoPassword(t *testing.T) {
	path := writeTemp(t, "labctl.yaml", "version: 1\nvcenter: {url: https://vcsa.lab, user: boss, password_env: VCPW}\n")
	for _, tc := range []struct{ flag, want string }{{"https://evil.lab", ""}, {"https://vcsa.lab:444", ""}, {"VCSA.lab:443", "boss"}} {
		s, err := loadSettings(testFlags("--config", path, "--vcenter", tc.flag), testEnv(t))
		if err != nil {
			t.Fatal(err)
		}
		if s.VCenter.User != tc.want || (s.VCenter.PasswordEnv != "") != (tc.want != "") {
			t.Errorf("%s: %+v", tc.flag, s.VCenter)
		}
		if said := s.origins["vcenter.user"] != ""; said != (tc.want != "") {
			t.Errorf("%s: the user's origin is %q", tc.flag, s.origins["vcenter.user"])
		}
	}
}

// Viper lower-cases what passes through it; hosts must not.
func TestHostsKeepTheirCase(t *testing.T) {
	path := writeTemp(t, "labctl.yaml", "version: 1\nhosts:\n  - {name: ESX-Lab, user: Root, facts: {Wrap: No}}\n")
	s, err := loadSettings(testFlags("--config", path), testEnv(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []HostConf{{Name: "ESX-Lab", Access: Access{User: "Root"}, Facts: map[string]string{"Wrap": "No"}}}
	if diff := cmp.Diff(want, s.Hosts); diff != "" {
		t.Error(diff)
	}
}

// What config init writes reads back as what went in, also with names that
// YAML would take for something else.
func TestRenderedConfigReadsBack(t *testing.T) {
	for _, c := range []Config{
		{Version: 1, Hosts: []HostConf{{Name: "no", Access: Access{URL: "https://1.2.3.4", User: "true"}}}},
		{Version: 1, VCenter: Access{URL: "https://v", User: "a\"b\\c: #d<&>é"},
			Hosts: []HostConf{{Name: "n", Access: Access{URL: "https://n", User: "root", PasswordCommand: []string{"pass", "a b", "", "[x], y"}}, Keyboard: "ssh://pi@pi"}}},
		{Version: 1, Hosts: []HostConf{{Name: "n", Access: Access{URL: "https://n", User: "root", PasswordFile: "/x: y", Thumbprint: strings.Repeat("AA:", 31) + "AA"}}}},
	} {
		text, err := renderConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseConfig("/x.yaml", text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if diff := cmp.Diff(c, f.Config); diff != "" {
			t.Errorf("%s\n%s", diff, text)
		}
	}
}

func TestMaskURL(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"https://h":           "https://h",
		"https://u@h":         "https://u@h",
		"https://u:pw@h/sdk":  "https://u:••••@h/sdk",
		"u:p@w@h":             "u:••••@h",
		"https://h:443/a@b:c": "https://h:••••@b:c", // better too much than too little
	} {
		if got := maskURL(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// Whatever the bytes, the decoder ends, and what it rejects it places inside
// the file.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(configs.Example))
	f.Add([]byte("version: 1\nhosts:\n  - &a {name: a}\n  - <<: *a\n"))
	f.Add([]byte("version: 1\n\thosts: x\n"))
	f.Add([]byte("\r\r0"))
	f.Add([]byte("a: &a [*a]\n? b\n: c\n--- !!x |\n  y\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := parseConfig(filepath.Join("d", "x.yaml"), src)
		if err == nil {
			if c.Version != 1 {
				t.Errorf("version %d passes", c.Version)
			}
			if _, err := mergeSettings(testFlags(), testEnv(t).lookup, c); err != nil {
				t.Errorf("a good file does not merge: %v", err)
			}
			return
		}
		var bad fileErrors
		if !errors.As(err, &bad) || len(bad.all) == 0 {
			t.Fatalf("an error without a place: %v", err)
		}
		for _, e := range bad.all {
			if e.line < 1 || e.col < 1 || e.line > len(bad.lines)+1 {
				t.Errorf("%d:%d is outside: %s", e.line, e.col, e.msg)
			}
		}
	})
}

// Everything that the file has for VCHs arrives, and a flag beats each of it.
func TestVCHOverlay(t *testing.T) {
	var file VCHConf
	fields := reflect.ValueOf(&file).Elem()
	for i := range fields.NumField() {
		switch f := fields.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("text")
		case reflect.Int:
			f.SetInt(7)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"text"}))
		}
	}
	file.Ops.User = "vic-ops"
	var bare VCHConf
	bare.overlay(file, func(string) bool { return false })
	if d := cmp.Diff(file, bare); d != "" {
		t.Errorf("without flags:\n%s", d)
	}
	var flags VCHConf
	known := (&app{}).vchUpCommand().Flags()
	flags.overlay(file, func(name string) bool {
		if known.Lookup(name) == nil {
			t.Errorf("there is no flag --%s", name)
		}
		return true
	})
	if d := cmp.Diff(VCHConf{Ops: file.Ops}, flags); d != "" {
		t.Errorf("with all flags:\n%s", d)
	}
}
