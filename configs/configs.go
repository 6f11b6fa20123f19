// Package configs holds the files that labctl carries inside itself: the
// example configuration and the template of config init. Nothing in it fails;
// tests of the commands keep the files readable and the schema current.
package configs

import _ "embed"

// Example is a configuration with every key, each with a comment.
//
//go:embed labctl.example.yaml
var Example string

// Init is the text/template of the file that config init writes.
//
//go:embed init.yaml.tmpl
var Init string
