// Package configs holds the files that labctl carries inside itself: the
// example configuration, the schemas, and the template of config init. Nothing
// in it fails; tests of the commands keep the files readable and current.
package configs

import "embed"

// Example is a configuration with every key, each with a comment.
//
//go:embed labctl.example.yaml
var Example string

// Schema is the JSON schema of the configuration, derived from the command's
// own types: make schema writes it anew.
//
//go:embed labctl.schema.json
var Schema string

// RecipeSchema is the JSON schema of a recipe's file: make schema writes it
// anew.
//
//go:embed recipe.schema.json
var RecipeSchema string

// Init is the text/template of the file that config init writes.
//
//go:embed init.yaml.tmpl
var Init string

// Output holds the JSON schemas of what the commands write with -o json, a file
// each: make schema writes them anew.
//
//go:embed output
var Output embed.FS
