package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/spf13/cobra"

	"github.com/labctl/labctl/configs"
	"github.com/labctl/labctl/esxi/network"
	"github.com/labctl/labctl/recipes"
)

// outputForm is one shape that a line of a command's JSON can have.
type outputForm struct {
	name string // in $defs
	zero any    // of the type that is encoded
}

// outputs are what the commands write with -o json: events, a line each, then
// one result. A command that is not here writes none, see noOutput.
var outputs = map[string]struct {
	results []outputForm
	event   any // nil: there are none
}{
	"config check":    {results: []outputForm{{"result", configCheckResult{}}}},
	"config init":     {results: []outputForm{{"result", configInitResult{}}}},
	"config show":     {results: []outputForm{{"result", configShowResult{}}}},
	"dcui":            {results: []outputForm{{"result", dcuiResult{}}}},
	"doctor":          {results: []outputForm{{"result", doctorResult{}}}},
	"help":            {results: []outputForm{{"guide", helpResult{}}, {"index", helpIndex{}}}},
	"hid doctor":      {results: []outputForm{{"result", hidDoctorResult{}}}},
	"hid down":        {results: []outputForm{{"status", hidStatusResult{}}, {"dryRun", hidStepsResult{}}}},
	"hid press":       {results: []outputForm{{"sent", hidSentResult{}}, {"dryRun", hidReportsResult{}}}},
	"hid status":      {results: []outputForm{{"result", hidStatusResult{}}}},
	"hid type":        {results: []outputForm{{"sent", hidSentResult{}}, {"dryRun", hidReportsResult{}}}},
	"hid up":          {results: []outputForm{{"status", hidStatusResult{}}, {"dryRun", hidStepsResult{}}}},
	"hid watch":       {results: []outputForm{{"result", watchResult{}}, {"lint", watchLint{}}}, event: watchEvent{}},
	"host learn":      {results: []outputForm{{"result", hostLearnResult{}}}},
	"host ls":         {results: []outputForm{{"result", hostLsResult{}}}},
	"host show":       {results: []outputForm{{"result", hostShowResult{}}}},
	"host trust":      {results: []outputForm{{"result", hostTrustResult{}}}},
	"net apply":       {results: []outputForm{{"result", netApplyResult{}}, {"rescueRefused", judged{}}}, event: netEvent{}},
	"net cleanup":     {results: []outputForm{{"result", netCleanupResult{}}}, event: netEvent{}},
	"net plan":        {results: []outputForm{{"result", network.Plan{}}}},
	"net resume":      {results: []outputForm{{"result", netApplyResult{}}}, event: netEvent{}},
	"net rollback":    {results: []outputForm{{"result", netApplyResult{}}}, event: netEvent{}},
	"net show":        {results: []outputForm{{"result", netShowResult{}}}},
	"net status":      {results: []outputForm{{"result", netStatusResult{}}}},
	"recipe check":    {results: []outputForm{{"result", judged{}}}},
	"recipe export":   {results: []outputForm{{"result", foreign{}}}},
	"recipe import":   {results: []outputForm{{"result", foreign{}}}},
	"recipe list":     {results: []outputForm{{"result", recipeListResult{}}}},
	"recipe record":   {results: []outputForm{{"result", recipeRecorded{}}}},
	"recipe rehearse": {results: []outputForm{{"result", ran{}}, {"refused", judged{}}}, event: runEvent{}},
	"recipe run":      {results: []outputForm{{"result", ran{}}, {"refused", judged{}}}, event: runEvent{}},
	"recipe show":     {results: []outputForm{{"result", recipeShown{}}}},
	"vch down":        {results: []outputForm{{"result", vchDownResult{}}}, event: vchEvent{}},
	"vch inspect":     {results: []outputForm{{"result", vchInspectResult{}}}},
	"vch logs":        {results: []outputForm{{"result", vchLogsResult{}}}},
	"vch ls":          {results: []outputForm{{"result", vchListResult{}}}},
	"vch test":        {results: []outputForm{{"result", vchTestResult{}}}, event: vchEvent{}},
	"vch up":          {results: []outputForm{{"result", vchUpResult{}}}, event: vchEvent{}},
	"version":         {results: []outputForm{{"result", versionResult{}}}},
}

// noOutput are the commands that write something else than a result, each with
// what that is.
var noOutput = map[string]string{
	"completion":    "a shell script",
	"config schema": "a JSON schema",
	"recipe schema": "a JSON schema",
	"man":           "manual pages, as files",
	"hid serve":     "answers to the labctl at the other end",
}

// outputFile is where the schema of a command's output lies in configs.
func outputFile(command string) string {
	return "output/" + strings.ReplaceAll(command, " ", "-") + ".schema.json"
}

// outputSchema derives the schema of a command's output from the Go types that
// it encodes, with the comments at their fields as descriptions.
func outputSchema(t *testing.T, command string) *jsonschema.Schema {
	t.Helper()
	o := outputs[command]
	derive := func(zero any, description string) *jsonschema.Schema {
		typ := reflect.TypeOf(zero)
		s, err := jsonschema.ForType(typ, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
			// vSphere's own JSON, which is vSphere's to describe.
			reflect.TypeFor[network.Config](): {Type: "object", Description: "HostNetworkConfig of the vSphere API, as JSON"},
			// "" where there is no switch.
			reflect.TypeFor[network.Kind](): {Type: "string", Enum: []any{"", network.Standard, network.Distributed}},
			reflect.TypeFor[network.Outcome](): {Type: "string", Enum: []any{
				network.Applied, network.RolledBack, network.NotApplied, network.Unknown, network.Rescued}},
			reflect.TypeFor[recipes.Kind](): {Type: "string", Enum: []any{recipes.Safe, recipes.Unsafe, recipes.NeedsFacts}},
		}})
		if err != nil {
			t.Fatalf("%s: derive the schema of %v: %v", command, typ, err)
		}
		tidySchema(s)
		describe(t, s, typ)
		if typ == reflect.TypeFor[vchUpResult]() {
			// A VCH that did not come up has none of an instance's fields.
			s.Properties["vchs"].Items.Required = []string{"name", "outcome"}
		}
		s.Description = description
		return s
	}
	head := func(s *jsonschema.Schema) *jsonschema.Schema {
		s.Schema = "https://json-schema.org/draft/2020-12/schema"
		s.Title = "labctl " + command + " -o json"
		return s
	}
	if o.event == nil && len(o.results) == 1 {
		return head(derive(o.results[0].zero, "the result"))
	}
	all := &jsonschema.Schema{Defs: map[string]*jsonschema.Schema{}, Description: "the result"}
	if o.event != nil {
		all.Description = "one line: events as they come, and last the result"
		all.AnyOf = append(all.AnyOf, &jsonschema.Schema{Ref: "#/$defs/event"})
		all.Defs["event"] = derive(o.event, "an event")
	}
	for _, f := range o.results {
		all.AnyOf = append(all.AnyOf, &jsonschema.Schema{Ref: "#/$defs/" + f.name})
		all.Defs[f.name] = derive(f.zero, "the "+strings.ToLower(f.name))
	}
	return head(all)
}

// describe gives properties the comments of the struct fields they come from.
func describe(t *testing.T, s *jsonschema.Schema, typ reflect.Type) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice {
			if s = s.Items; s == nil {
				return
			}
		}
		typ = typ.Elem()
	}
	switch typ.Kind() {
	case reflect.Map:
		if s.AdditionalProperties != nil {
			describe(t, s.AdditionalProperties, typ.Elem())
		}
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			p := s.Properties[name]
			if p == nil || f.Anonymous {
				continue
			}
			owner := typ
			for _, i := range f.Index[:len(f.Index)-1] {
				if owner.Kind() == reflect.Pointer {
					owner = owner.Elem()
				}
				owner = owner.Field(i).Type
			}
			if owner.Kind() == reflect.Pointer {
				owner = owner.Elem()
			}
			if p.Description == "" {
				p.Description = fieldComments(t)[owner.PkgPath()+"."+owner.Name()+"."+f.Name]
			}
			if p.Description == "" && name == "version" {
				p.Description = "version of this format"
			}
			describe(t, p, f.Type)
		}
	}
}

// fieldComments are the comments behind struct fields of this module, by
// package.Type.Field.
var commentsOnce sync.Once
var comments map[string]string

func fieldComments(t *testing.T) map[string]string {
	commentsOnce.Do(func() {
		comments = map[string]string{}
		err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			pkg := "main"
			if file.Name.Name != "main" {
				dir, err := filepath.Rel("../..", filepath.Dir(path))
				if err != nil {
					return err
				}
				pkg = "github.com/labctl/labctl/" + filepath.ToSlash(dir)
			} else if filepath.Base(filepath.Dir(path)) != "labctl" {
				return nil
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				st, ok := spec.Type.(*ast.StructType)
				if !ok {
					return true
				}
				for _, f := range st.Fields.List {
					for _, name := range f.Names {
						if text := strings.TrimSpace(f.Comment.Text()); text != "" {
							comments[pkg+"."+spec.Name.Name+"."+name.Name] = strings.ReplaceAll(text, "\n", " ")
						}
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// The command's own package has another path while it is tested.
		for k, v := range comments {
			if rest, ok := strings.CutPrefix(k, "main."); ok {
				comments[reflect.TypeFor[app]().PkgPath()+"."+rest] = v
			}
		}
	})
	return comments
}

func TestOutputSchemasAreCurrent(t *testing.T) {
	for command := range outputs {
		b, err := json.MarshalIndent(outputSchema(t, command), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want := append(b, '\n')
		if *update {
			if err := os.WriteFile("../../configs/"+outputFile(command), want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := configs.Output.ReadFile(outputFile(command))
		if err != nil {
			t.Errorf("make schema writes it: %v", err)
			continue
		}
		if diff := cmp.Diff(string(want), string(have)); diff != "" {
			t.Errorf("%s: make schema writes it anew:\n%s", command, diff)
		}
	}
	files, err := configs.Output.ReadDir("output")
	if err != nil {
		t.Fatal(err)
	}
	if !*update && len(files) != len(outputs) {
		t.Errorf("%d schemas for %d commands", len(files), len(outputs))
	}
}

// Every command has a schema, or a reason to have none.
func TestEveryCommandHasASchema(t *testing.T) {
	walkCommands((&app{env: testEnv(t)}).root(), func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "labctl ")
		_, has := outputs[name]
		if c.Hidden || c.HasSubCommands() {
			return
		}
		if has == (noOutput[name] != "") {
			t.Errorf("%s: in outputs %v, in noOutput %q", name, has, noOutput[name])
		}
	})
}

// What other programs rely on is required, by the names they know.
func TestContractFieldsAreRequired(t *testing.T) {
	for command, paths := range map[string][]string{
		"net show": {"version", "host", "vmkernels[]", "vmkernels[].device", "vmkernels[].ip", "vmkernels[].mac", "vmkernels[].mtu", "vmkernels[].switch",
			"vmkernels[].switchKind", "vmkernels[].portgroup", "vmkernels[].vlan", "uplinks[].device", "uplinks[].link", "uplinks[].switch", "uplinks[].switchKind",
			"vms[].name", "vms[].nics[].label", "vms[].nics[].mac", "vms[].nics[].switchKind", "vms[].nics[].portgroup", "vms[].nics[].connected"},
		"net plan": {"version", "host", "from", "to", "fingerprint", "changes[].kind", "changes[].object", "changes[].before", "changes[].after",
			"changes[].cutsManagement", "refusals[].code", "refusals[].reason", "lost[]", "requests"},
		"net apply#result": {"version", "host", "outcome", "vms.moved", "vms.failed", "outageMs", "requests", "journal"},
		"recipe check":     {"version", "recipe", "verdict", "keys[]", "worlds[].facts", "worlds[].end", "worlds[].effect", "worlds[].ok", "missing[].fact", "missing[].splits[]"},
		"recipe list":      {"version", "recipes[].name", "recipes[].summary", "recipes[].risk", "recipes[].esxi"},
		"recipe show":      {"version", "keys[]"},
		"hid type#dryRun":  {"version", "reports[]"},
		"hid watch#event":  {"event"},
		"vch ls":           {"version", "vchs[].name", "vchs[].id", "vchs[].marker", "vchs[].versionString", "vchs[].power", "vchs[].ip", "vchs[].dockerHost", "vchs[].containers"},
		"vch inspect": {"version", "name", "id", "marker", "versionString", "power", "ip", "dockerHost", "networks[]", "images", "sessions[]", "containers[].id", "containers[].name",
			"containers[].repo", "containers[].cmd", "containers[].power", "containers[].vm", "containers[].serial", "containers[].network", "containers[].disk", "vmx"},
	} {
		name, def, _ := strings.Cut(command, "#")
		root := outputSchema(t, name)
		if def != "" {
			root = root.Defs[def]
		}
		for _, path := range paths {
			s := root
			for _, part := range strings.Split(path, ".") {
				field, list := strings.CutSuffix(part, "[]")
				next := s.Properties[field]
				if next == nil || !slices.Contains(s.Required, field) {
					t.Errorf("%s: %s is not required", command, path)
					break
				}
				if s = next; list {
					if s.Type != "array" {
						t.Errorf("%s: %s is no list", command, path)
						break
					}
					s = s.Items
				}
			}
		}
	}
}

// validator judges the JSON that a command wrote, each line by the schema that
// is checked in, and the last one as a result.
func validateOutput(t *testing.T, command, stdout string) {
	t.Helper()
	src, err := configs.Output.ReadFile(outputFile(command))
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(events bool) *jsonschema.Resolved {
		var s jsonschema.Schema
		if err := json.Unmarshal(src, &s); err != nil {
			t.Fatal(err)
		}
		if !events && s.AnyOf != nil {
			s.AnyOf = slices.DeleteFunc(s.AnyOf, func(a *jsonschema.Schema) bool { return a.Ref == "#/$defs/event" })
		}
		r, err := s.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	line, last := resolve(true), resolve(false)
	dec := json.NewDecoder(strings.NewReader(stdout))
	var docs []any
	for dec.More() {
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Errorf("labctl %s: stdout is not JSON: %v\n%s", command, err, stdout)
			return
		}
		docs = append(docs, v)
	}
	if len(docs) == 0 {
		t.Errorf("labctl %s: nothing on stdout", command)
		return
	}
	if n := len(docs); n > 1 && strings.Count(strings.TrimSuffix(stdout, "\n"), "\n") != n-1 {
		t.Errorf("labctl %s: %d objects on %d lines", command, n, strings.Count(stdout, "\n"))
	}
	for i, v := range docs {
		judge := line
		if i == len(docs)-1 {
			judge = last
		}
		if err := judge.Validate(v); err != nil {
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetIndent("", " ")
			enc.Encode(v)
			t.Errorf("labctl %s: line %d of %d: %v\n%.3000s", command, i+1, len(docs), err, out.String())
		}
	}
}
