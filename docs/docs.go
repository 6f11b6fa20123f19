// Package docs holds the guides of this folder, so that labctl help can show
// them on a night without a network. Nothing in it fails; tests of the commands
// keep every command line, link and file in them true.
package docs

import "embed"

// Guides are the Markdown files, by name.
//
//go:embed *.md
var Guides embed.FS
