package recipes

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const duckySeed = `REM the restore, by hand
DELAY 500
F2
DELAY 300
TAB
STRING {{password}}
ENTER
DELAY 3000
DOWN
REPEAT 3
ENTER
DOWNARROW
ENTER
F11
`

const packerSeed = `boot_command = [
  "<f2><wait300ms><tab>", // to the password
  "${var.password}<enter><wait3>",
  "<down><down><down><down><enter><down><enter><f11>",
]
`

// What people bring reads as the recipe that they would have written.
func TestImport(t *testing.T) {
	for _, c := range []struct {
		name, format, src string
		keys              string // of all steps, parted by |
		declares          string
	}{
		{"the seed, from a ducky", Ducky, duckySeed,
			"wait 500ms|F2|wait 300ms|TAB ${password} ENTER|wait 3s|DOWN×4 ENTER DOWN ENTER F11", "secrets:\n  password:"},
		{"the seed, from Packer", Packer, packerSeed,
			"F2|wait 300ms|TAB ${password} ENTER|wait 3s|DOWN×4 ENTER DOWN ENTER F11", "requires: {layout: us}"},
		{"modifiers", Ducky, "CTRL-ALT DELETE\nCTRL ALT DELETE\nALT F2\nSHIFT TAB\nGUI r\nCTRL C\nCTRL SHIFT C\nALT\n",
			"CTRL+ALT+DELETE×2 ALT+F2 SHIFT+TAB GUI+R CTRL+C CTRL+SHIFT+C ALT", ""},
		{"text", Ducky, "STRING a\"b\\c $x ${y} $$ #1: '\nSTRINGLN end\n", `"a\"b\\c $$x $${y} $$$$ #1: 'end" ENTER`, ""},
		{"blanks in a text", Ducky, "  STRING   two  \n", `"  two  "`, ""},
		{"inputs in a text", Ducky, "STRING ip={{ my-ip }}/24\n", `"ip=" ${my-ip} "/24"`, "vars:\n  my-ip:"},
		{"line ends of Windows", Ducky, "F2\r\nREM x\r\nTAB\r\n", "F2|TAB", "# x"},
		{"comments in blocks", Ducky, "REM_BLOCK\nF1\nEND_REM\nF2\n// F3\n", "F2", "# F3"},
		{"a delay for all", Ducky, "DEFAULT_DELAY 200\nF2\n", "F2", "pace: {gap: 200ms}"},
		{"JSON", Packer, `["<F2>", "a\u003cb<enTer>"]`, `F2 "a<b" ENTER`, ""},
		{"a template in JSON", Packer, "{\"builders\": [{\"name\": \"x {{.Name}}\", \"boot_command\": [\"{{user `root_pw`}}<enter>\"]}]}", "${root_pw} ENTER", "secrets:\n  root_pw:"},
		{"a template in HCL", Packer, "# boot_command = [\"<f1>\"]\nsource \"x\" \"y\" {\n  name = \"${lookup(\"a\", \"b\")}\"\n  boot_wait = \"5s\"\n  boot_command = [\"<f2>\"]\n}\n", "F2", ""},
		{"keys held in Packer", Packer, `["<leftAltOn><f2><leftAltOff><leftShiftOn>a<tab><leftShiftOff><f10On><wait5><f10Off><xOn><xOff><leftCtrl><rightAltOn><rightAltOff><leftCtrlOn><leftAltOn><del><leftAltOff><leftCtrlOff>"]`,
			`ALT+F2 SHIFT+A SHIFT+TAB|hold F10 for 5s|X CTRL ALTGR CTRL+ALT+DELETE`, ""},
		{"pauses of Packer", Packer, `["<wait>a<wait1m30s>b<wait1.5s>c<wait10>d<wait0>"]`, `wait 1s|"a"|wait 1m30s|"b"|wait 1.5s|"c"|wait 10s|"d"`, ""},
		{"what is no word in Packer", Packer, `["<tap><<f2>> <1>"]`, `"<tap><" F2 "> <1>"`, ""},
		{"escapes of HCL", Packer, `["$${x} %%{y} $5"]`, `"$${x} %{y} $$5"`, ""},
		{"comments in a list", Packer, "[ /* one */ \"<f2>\", # two\n \"<tab>\" // three\n]", "F2 TAB", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, err := Import(c.format, "x", []byte(c.src), ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Parse("imported.yaml", src)
			if err != nil {
				t.Fatalf("%v\n%s", err, src)
			}
			var got []string
			for _, s := range r.Steps {
				switch s.Kind {
				case StepKeys:
					got = append(got, strings.Join(sourceWords(s.words), " "))
				default:
					got = append(got, s.Text)
				}
			}
			if strings.Join(got, "|") != c.keys {
				t.Errorf("keys\n got %s\nwant %s", strings.Join(got, "|"), c.keys)
			}
			if !strings.Contains(string(src), c.declares) {
				t.Errorf("%q is not in\n%s", c.declares, src)
			}
			if r.Risk != Destructive || r.Name != "imported" {
				t.Errorf("%s is %s", r.Name, r.Risk)
			}
		})
	}
}

func TestImportOptions(t *testing.T) {
	src, err := Import(Ducky, "x", []byte("F2\n"), ImportOptions{Name: "mine", Summary: "it's: #mine", Risk: ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse("x.yaml", src)
	if err != nil || r.Name != "mine" || r.Summary != "it's: #mine" || r.Risk != ReadOnly {
		t.Errorf("%+v, %v\n%s", r, err, src)
	}
	for name, want := range map[string]string{"": "imported", "My payload!.txt": "My-payload-.txt", "..": "imported", "été": "t-"} {
		src, err := Import(Ducky, "x", []byte("\ufeffF2\n"), ImportOptions{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Parse("x.yaml", src); err != nil || r.Name != want {
			t.Errorf("the name %q becomes %q, %v", name, r.Name, err)
		}
	}
	var format *FormatError
	if _, err := Import("bash", "x", nil, ImportOptions{}); !errors.As(err, &format) || !strings.Contains(err.Error(), "ducky, packer") {
		t.Errorf("an unknown format gives %v", err)
	}
}

func TestImportFaults(t *testing.T) {
	for _, c := range []struct {
		name, format, src string
		want              []string // file:line:col: and the beginning of what is wrong
		hint              string
	}{
		{"nothing", Ducky, "REM nothing\n\nDELAY 5\n", []string{"x:1:1: nothing in it is typed"}, ""},
		{"unknown command", Ducky, "F2\nSTRNG a\n", []string{"x:2:1: unknown command STRNG"}, "did you mean STRING?"},
		{"unknown key", Ducky, "  CTRL DOWNAROW\n", []string{"x:1:3: unknown key DOWNAROW"}, "did you mean DOWNARROW?"},
		{"two keys", Ducky, "TAB ENTER\n", []string{"x:1:1: a key stands at the end"}, "each key"},
		{"capitals", Ducky, "string x\n", []string{"x:1:1: unknown command string"}, "did you mean STRING?"},
		{"DuckyScript 3", Ducky, "WHILE TRUE\nF2\nEND_WHILE\n", []string{"x:1:1: WHILE is a command of DuckyScript 3", "x:3:1: END_WHILE is"}, "write it as keys and delays"},
		{"a bad delay", Ducky, "DELAY x\nDELAY -1\nDELAY 99999999\nF2\n", []string{"x:1:1: want a number from 0 to 3600000", "x:2:1: want", "x:3:1: want"}, ""},
		{"nothing to repeat", Ducky, "REPEAT 3\nF2\n", []string{"x:1:1: nothing stands before it"}, ""},
		{"too many", Ducky, "F2\nREPEAT 9999\nREPEAT 9999\n", []string{"x:3:1: more than"}, ""},
		{"more than a recipe holds", Ducky, "F2\nREPEAT 5000\n", []string{"x:1:1: 5001 keys in 1 steps"}, "part it"},
		{"more steps", Ducky, strings.Repeat("F2\nDELAY 5\n", 300), []string{"x:1:1: 300 keys in 600 steps"}, "part it"},
		{"a tab in a text", Ducky, "STRING a\tb\n", []string{"x:1:9: this character cannot be typed"}, ""},
		{"not UTF-8", Ducky, "STRING a\xff\n", []string{"x:1:9: this character cannot be typed"}, ""},
		{"no list", Packer, "boot_wait = \"5s\"\n", []string{"x:1:1: there is no boot_command in it"}, ""},
		{"two lists", Packer, "boot_command = [\"a\"]\nboot_command = [\"b\"]\n", []string{"x:2:1: a second boot_command, the first is on line 1"}, "leave one in the file"},
		{"no strings", Packer, "[\"<f2>\", 5]", []string{"x:1:10: want a string in double quotes"}, ""},
		{"no comma", Packer, "[\"<f2>\" \"a\"]", []string{"x:1:9: want a comma"}, ""},
		{"no end", Packer, "[\"<f2>\",\n \"a]", []string{"x:2:2: a string that does not end"}, ""},
		{"no end of the list", Packer, "[\"<f2>\",\n", []string{"x:2:1: want a comma or the end"}, ""},
		{"more", Packer, "[\"<f2>\"] x", []string{"x:1:10: something follows"}, ""},
		{"an expression", Packer, "boot_command = concat([\"a\"])", []string{"x:1:16: want a list"}, ""},
		{"a template", Packer, "[\"http://{{ .HTTPIP }}/\"]", []string{"x:1:10: a recipe has no such template"}, "write what it stands for"},
		{"a directive", Packer, "[\"%{ if x }a\"]", []string{"x:1:3: a recipe has no such template"}, ""},
		{"an escape", Packer, `["\q"]`, []string{`x:1:3: no such escape`}, ""},
		{"a line end", Packer, `["a\n"]`, []string{"x:1:4: Packer has no key for this character"}, ""},
		{"never let go", Packer, "[\"<f2>\",\n\"<leftAltOn><f2>\"]", []string{"x:2:2: this key is never let go"}, ""},
		{"a key never let go", Packer, `["<f2On>"]`, []string{"x:1:3: this key is never let go"}, ""},
		{"not held", Packer, `["<leftAltOff>"]`, []string{"x:1:3: this key is let go"}, ""},
		{"two held", Packer, `["<aOn>b<aOff>"]`, []string{"x:1:8: a key is pressed while another"}, ""},
		{"a held modifier and a pause", Packer, `["<leftAltOn><wait><leftAltOff>"]`, []string{"x:1:14: a pause while a modifier"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Import(c.format, "x", []byte(c.src), ImportOptions{})
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("error %v, and\n%s", err, out)
			}
			var got []string
			for _, e := range all {
				got = append(got, e.Error())
			}
			if len(got) != len(c.want) || slices.ContainsFunc(c.want, func(w string) bool {
				return !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) })
			}) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !strings.Contains(all[0].Hint, c.hint) {
				t.Errorf("hint %q, want %q", all[0].Hint, c.hint)
			}
			if strings.Contains(err.Error(), "\n") && len(all) == 1 {
				t.Errorf("one fault on several lines: %q", err)
			}
		})
	}
}

func FuzzImport(f *testing.F) {
	f.Add(true, duckySeed)
	f.Add(false, packerSeed)
	f.Add(false, `["<leftAltOn>a<wait5><leftAltOff>${var.x}\u00e9"]`)
	f.Add(true, "\v\n")
	f.Add(true, "CTRL-ALT DELETE\nSTRING {{a}}$$\"\\'\nREPEAT 2\nDEFAULT_DELAY 99\n")
	f.Fuzz(func(t *testing.T, ducky bool, src string) {
		format := Packer
		if ducky {
			format = Ducky
		}
		out, err := Import(format, "x", []byte(src), ImportOptions{})
		if err != nil {
			return
		}
		if _, err := Parse("x.yaml", out); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
	})
}
