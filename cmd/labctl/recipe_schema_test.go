package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/labctl/labctl/configs"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

type node = map[string]any

// closed is an object with these properties and no others.
func closed(description string, properties node, required ...string) node {
	o := node{"type": "object", "description": description, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

func text(description string) node { return node{"type": "string", "description": description} }

// recipeSchema writes down the format of recipes. Names that the model has, of
// facts, screens and effects, are taken from it.
func recipeSchema() ([]byte, error) {
	// YAML takes 6.0 for a number; the parser goes by what is written.
	scalar := []string{"string", "number", "boolean"}
	duration := node{"type": "string", "pattern": `^\s*([0-9.]+\s*(ns|us|µs|ms|s|m|h)\s*)+$`}
	defs := node{}
	define := func(name string, n node) node {
		defs[name] = n
		return node{"$ref": "#/$defs/" + name}
	}
	duration = define("duration", duration)
	requirements, facts := node{}, node{}
	for _, n := range dcui.FactNames() {
		one := define("fact-"+n, node{"anyOf": []any{node{"enum": dcui.FactValues(n)}, node{"type": scalar}}})
		requirements[n] = node{"anyOf": []any{one, node{"type": "array", "items": one, "minItems": 1}}}
		facts[n] = one
	}
	requires := define("facts", closed("facts, each with a value or a list of values", requirements))
	screen := define("screen", node{"enum": dcui.Screens()})
	target := define("target", node{"anyOf": []any{
		closed("where to ask, and for how long", node{
			"tcp":    node{"type": "integer", "minimum": 1, "maximum": 65535, "description": "port; without one any sign of life counts"},
			"host":   text("address or name; without one the host itself"),
			"within": duration,
		}),
		node{"type": []string{"null", "boolean"}},
	}})
	effects := []string{}
	for e := dcui.Nothing; e <= dcui.SystemReset; e++ {
		effects = append(effects, e.String())
	}
	conditions := node{
		"reachable": target, "unreachable": target, "closed": target, "icmp": target, "led": target, "usb-reset": target,
		"effect": define("effect", node{"enum": effects}), "selected": text("label of the item under the cursor"),
	}
	for n, v := range facts {
		conditions[n] = v
	}
	conditions["screen"] = screen
	loose := node{"tcp": node{"type": []string{"integer", "string"}}, "host": text("address or name"), "within": duration}
	for n, v := range conditions {
		loose[n] = v
	}
	condition := define("condition", node{"anyOf": []any{node{"enum": []string{"led", "icmp", "usb-reset"}}, closed("what has to hold", loose)}})
	// A way may be empty: nothing to do there.
	ways := node{"then": node{"anyOf": []any{node{"$ref": "#/$defs/steps"}, node{"type": "array", "maxItems": 0}, node{"type": "null"}}}}
	ways["else"] = ways["then"]
	for n, v := range loose {
		ways[n] = v
	}
	probe := define("probe", node{"anyOf": []any{node{"enum": []string{"led", "icmp", "usb-reset"}}, closed("what has to hold; then and else are the steps for either answer", ways)}})
	pace := define("pace", closed("how keys are typed; each pause as in 50ms", node{"hold": duration, "gap": duration, "lead": duration}))
	actions := node{
		"keys":   text("keys as they stand: F2 TAB ${password} ENTER DOWN×4 \"text\" ALT+F2"),
		"anchor": node{"type": "null"},
		"login": node{"anyOf": []any{node{"type": "null"}, node{"enum": []string{"F2", "F12", "f2", "f12"}},
			closed("a login as somebody else", node{"key": node{"enum": []string{"F2", "F12", "f2", "f12"}}, "secret": text("name of the secret"), "user": node{"type": scalar}})}},
		"select":  text("label of an item of the menu in front"),
		"set":     node{"type": "object", "description": "fields of the form in front, and what is to stand in them", "additionalProperties": node{"type": append([]string{"null"}, scalar...)}},
		"toggle":  node{"type": "object", "description": "a switch of the troubleshooting menu, and its state", "minProperties": 1, "additionalProperties": node{"enum": []any{"on", "off"}}},
		"confirm": node{"anyOf": []any{node{"type": "null"}, node{"type": "string", "pattern": "^(?i:F11|ENTER|F2|SPACE|Y|N)$"}}},
		"leave":   node{"anyOf": []any{node{"type": "null"}, screen}},
		"type":    node{"type": scalar, "description": "characters, with ${name} in between"},
		"wait":    node{"anyOf": []any{duration, condition}},
		"hold":    node{"anyOf": []any{duration, closed("keeps a key down", node{"key": text("one key"), "for": duration}, "key", "for")}},
		"expect":  node{"anyOf": []any{screen, closed("stops where the model shows something else", conditions)}},
		"probe":   probe,
		"include": text("a recipe of the library, or a file relative to this one"),
		"steps":   node{"$ref": "#/$defs/steps"},
	}
	var kinds []any
	for _, name := range []string{"keys", "anchor", "login", "select", "set", "toggle", "confirm", "leave", "type", "wait", "hold", "expect", "probe", "include", "steps"} {
		kinds = append(kinds, closed("the step "+name, node{
			name: actions[name], "when": requires, "pace": pace, "note": text("words about the step"),
		}, name))
	}
	input := func(properties node) node {
		return node{"type": "object", "additionalProperties": node{"anyOf": []any{
			node{"type": []string{"string", "null"}}, closed("", properties)}}}
	}
	schema := closed("a recipe for the console of an ESXi host", node{
		"recipe":   node{"type": "string", "description": "its name", "minLength": 1},
		"summary":  text("what it does, in a line"),
		"risk":     node{"enum": []any{recipes.ReadOnly, recipes.Toggle, recipes.Disruptive, recipes.Destructive}},
		"esxi":     node{"type": []string{"string", "number"}, "description": "versions it is for, as in \">=5.1 <8.0\""},
		"requires": requires,
		"secrets":  input(node{"summary": text("what it is")}),
		"vars": input(node{"summary": text("what it is"), "kind": node{"enum": recipes.Kinds()},
			"default": node{"type": append([]string{"null"}, scalar...)}}),
		"pace":   pace,
		"steps":  node{"$ref": "#/$defs/steps"},
		"verify": node{"type": "array", "items": condition},
	}, "recipe", "steps")
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "labctl recipe"
	define("steps", node{"type": "array", "minItems": 1,
		"items": node{"anyOf": append([]any{node{"enum": []string{"anchor", "login", "leave", "confirm"}}}, kinds...)}})
	schema["$defs"] = defs
	b, err := json.MarshalIndent(schema, "", "  ")
	return append(b, '\n'), err
}

func TestRecipeSchemaIsCurrent(t *testing.T) {
	want, err := recipeSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../../configs/recipe.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), configs.RecipeSchema); diff != "" {
		t.Errorf("make schema writes it anew:\n%s", diff)
	}
}

// The schema takes every recipe that the parser takes, and refuses typical
// mistakes with it.
func TestRecipeSchemaAgrees(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal([]byte(configs.RecipeSchema), &s); err != nil {
		t.Fatal(err)
	}
	schema, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]bool{}
	for _, r := range recipes.Library() {
		sources[string(r.Source)] = true
	}
	const head = "recipe: x\nsecrets: {password: root}\n"
	for src, good := range map[string]bool{
		head + "steps: [anchor, login, {login: F12}, {select: View System Logs}, {confirm: y}, {leave: menu}, leave]\n":               true,
		head + "steps: [{keys: F2 TAB, when: {esxi: [6.0, 7.0]}, pace: {gap: 1s}, note: hm}]\n":                                       true,
		head + "steps: [{wait: 3s}, {wait: {reachable: {tcp: 22}}}, {hold: {key: F10, for: 1s}}, {probe: led}, {probe: usb-reset}]\n": true,
		head + "steps: [{probe: {ssh: on, within: 10s, then: [], else: [{toggle: {SSH: on}}]}}]\n":                                    true,
		head + "steps: [{wait: {ssh: on, then: [], else: [anchor]}}]\n":                                                               false,
		head + "steps: [{steps: [anchor, login], when: {ssh: off}}]\nverify: [ssh: on, screen: welcome]\n":                            true,
		head + "risk: harmless\nsteps: [anchor]\n":                                                                                    false,
		head + "steps: []\n":                                  false,
		head + "riks: toggle\nsteps: [anchor]\n":              false,
		head + "steps: [logn]\n":                              false,
		head + "steps: [{keys: F2, select: View}]\n":          false,
		head + "steps: [{wait: long}]\n":                      false,
		head + "steps: [{expect: nowhere}]\n":                 false,
		head + "steps: [anchor]\nverify: [effect: sunrise]\n": false,
		"steps: [anchor]\n":                                   false,
	} {
		sources[src] = good
	}
	for src, good := range sources {
		var v any
		if err := yaml.Unmarshal([]byte(src), &v); err != nil {
			t.Fatal(err)
		}
		js, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(js, &v); err != nil {
			t.Fatal(err)
		}
		_, parseErr := recipes.Parse("x.yaml", []byte(src))
		if err := schema.Validate(v); (err == nil) != good || (parseErr == nil) != good {
			t.Errorf("%s\nschema: %v\nparser: %v", src, err, parseErr)
		}
	}
}
