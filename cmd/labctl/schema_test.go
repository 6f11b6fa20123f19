package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/labctl/labctl/configs"
)

var update = flag.Bool("update", false, "write generated files anew")

// configSchema derives the schema from Config, so that the two cannot differ.
func configSchema() ([]byte, error) {
	s, err := jsonschema.For[Config](nil)
	if err != nil {
		return nil, fmt.Errorf("derive the schema: %w", err)
	}
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "labctl.yaml"
	one := any(1)
	s.Properties["version"].Const = &one
	tidySchema(s)
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// tidySchema corrects what the derivation cannot know: a Go slice is a list and
// never null, one access block has one source of the password, and facts are
// words, whatever YAML takes them for.
func tidySchema(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if slices.Equal(s.Types, []string{"null", "array"}) {
		s.Type, s.Types = "array", nil
	}
	tidySchema(s.Items)
	for name, p := range s.Properties {
		tidySchema(p)
		if name == "facts" {
			p.AdditionalProperties = &jsonschema.Schema{Types: []string{"string", "number", "boolean"}}
		}
	}
	if s.Properties["password_env"] != nil {
		s.Not = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Required: []string{"password_command", "password_env"}},
			{Required: []string{"password_command", "password_file"}},
			{Required: []string{"password_env", "password_file"}},
		}}
	}
}

func TestSchemaIsCurrent(t *testing.T) {
	want, err := configSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../../configs/labctl.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), configs.Schema); diff != "" {
		t.Errorf("make schema writes it anew:\n%s", diff)
	}
}

// The schema and the decoder agree on what is right and on typical mistakes.
func TestSchemaAgrees(t *testing.T) {
	b, err := configSchema()
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	schema, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	for src, good := range map[string]bool{
		configs.Example: true,
		"version: 1\n":  true,
		"version: 2\n":  false,
		"hosts: []\n":   false,
		"version: 1\nhosts: [{name: a, urll: x}]\n":                                 false,
		"version: 1\nhosts: [{url: \"https://x\"}]\n":                               false,
		"version: 1\nhosts: [{name: a, password_env: A, password_file: b}]\n":       false,
		"version: 1\nhosts: [{name: a, facts: {esxi: 6.0, wrap: \"no\", x: on}}]\n": true,
	} {
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
		_, parseErr := parseConfig("x.yaml", []byte(src))
		if err := schema.Validate(v); (err == nil) != good || (parseErr == nil) != good {
			t.Errorf("%q: schema %v, decoder %v", src, err, parseErr)
		}
	}
}
