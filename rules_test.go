package labctl_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/labctl/labctl"

// rule forbids packages to reach others, directly or through what they import.
// Test files are exempt: a double is there for them.
type rule struct {
	from    string   // prefix of import paths
	except  string   // prefix that is let off
	forbids []string // prefixes of import paths
	why     string
}

var rules = []rule{
	{from: module + "/hid", forbids: []string{module + "/recipes", module + "/esxi"},
		why: "hid is a leaf: usable from any Go program on a Pi"},
	{from: module + "/recipes", forbids: []string{module + "/esxi", "github.com/vmware/govmomi"},
		why: "recipes type keys, they know no API"},
	{from: module + "/esxi", forbids: []string{module + "/hid", module + "/recipes"},
		why: "the API path works, and is tested, without a keyboard"},
	{from: module, except: module + "/cmd/", forbids: []string{
		"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/spf13/viper", "golang.org/x/term",
		"github.com/charmbracelet/", "github.com/lmittmann/tint"},
		why: "flags, config and colour are the business of one place"},
	{from: module, except: module + "/cmd/", forbids: []string{module + "/cmd/"},
		why: "a command is the end of the line"},
	{from: module + "/cmd/labctl", forbids: []string{module + "/esxi/sim", "github.com/vmware/govmomi/simulator"},
		why: "a test double has no place in the tool"},
	{from: module, forbids: []string{"github.com/google/gousb"},
		why: "gousb needs cgo and libusb, which would end static binaries for the Pi; it lives behind the build tag usb"},
	{from: module, forbids: []string{"testing"},
		why: "testing registers flags and belongs to tests"},
}

// onlyFile holds libraries that one file alone imports.
var onlyFile = map[string]string{"github.com/spf13/viper": "cmd/labctl/config.go"}

type pkg struct {
	ImportPath, Dir string
	Deps            []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Deps", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 3 {
		t.Fatalf("only %d packages found: the rules would hold of nothing", len(all))
	}
	return all
}

func below(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func broken(r rule, p pkg) []string {
	if !below(p.ImportPath, r.from) || r.except != "" && below(p.ImportPath, r.except) {
		return nil
	}
	var bad []string
	for _, dep := range p.Deps {
		if slices.ContainsFunc(r.forbids, func(f string) bool { return below(dep, f) }) {
			bad = append(bad, dep)
		}
	}
	return bad
}

func TestImportRules(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		for _, p := range all {
			for _, dep := range broken(r, p) {
				t.Errorf("%s reaches %s: %s", p.ImportPath, dep, r.why)
			}
		}
	}
}

// The rules are only as good as the matching: these must be seen as broken.
func TestRulesCatch(t *testing.T) {
	for i, r := range rules {
		from := r.from
		if r.except != "" || from == module {
			from = module + "/esxi"
		}
		for _, f := range r.forbids {
			p := pkg{ImportPath: from, Deps: []string{"fmt", strings.TrimSuffix(f, "/")}}
			if len(broken(r, p)) != 1 {
				t.Errorf("rule %d does not catch %s in %s", i, f, from)
			}
			if r.except != "" {
				p.ImportPath = r.except + "labctl"
				if len(broken(r, p)) != 0 {
					t.Errorf("rule %d does not let %s off", i, p.ImportPath)
				}
			}
		}
	}
	if below(module+"/hidden", module+"/hid") {
		t.Error("a longer name counts as a folder below")
	}
}

// goFiles calls visit with each Go file of the module and its text.
func goFiles(t *testing.T, visit func(path, text string)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "bin", "dist", "build"}, d.Name())) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n++
			visit(filepath.ToSlash(path), string(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Fatal("no Go files found")
	}
}

func TestOneFileLibraries(t *testing.T) {
	goFiles(t, func(path, text string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, imp := range f.Imports {
			lib := strings.Trim(imp.Path.Value, `"`)
			if only := onlyFile[lib]; only != "" && only != path {
				t.Errorf("%s imports %s, which is for %s alone", path, lib, only)
			}
		}
	})
}

// A package doc says what the package is for, so it has to be there, once.
func TestPackageDocs(t *testing.T) {
	docs := map[string][]string{}
	goFiles(t, func(path, text string) {
		dir := filepath.Dir(path)
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if _, ok := docs[dir]; !ok {
			docs[dir] = nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		if f.Doc == nil {
			return
		}
		docs[dir] = append(docs[dir], path)
		start := "Package " + f.Name.Name + " "
		if f.Name.Name == "main" {
			name := filepath.Base(dir)
			start = strings.ToUpper(name[:1]) + name[1:] + " "
		}
		if doc := f.Doc.Text(); !strings.HasPrefix(doc, start) {
			t.Errorf("%s: the package doc starts with %.30q, not with %q", path, doc, start)
		}
	})
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s: %d package docs, want one: %v", dir, len(files), files)
		}
	}
}

// Unfinished work is in the issue tracker or it is nowhere.
func TestNoMarks(t *testing.T) {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	goFiles(t, func(path, text string) {
		for i, line := range strings.Split(text, "\n") {
			if m := marks.FindString(line); m != "" {
				t.Errorf("%s:%d: %s", path, i+1, m)
			}
		}
	})
}
