package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Short: "Write the manual pages into a folder",
		Long: `Man writes a manual page for labctl and one for each of its commands, all made
from what --help says. The Debian package has them already.`,
		Example: "  labctl man ~/.local/share/man/man1\n  man labctl-net-plan",
		Args:    argsBetween(1, 1, "a folder"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := manPages(cmd.Root(), buildVersion())
			err := os.MkdirAll(args[0], 0o755)
			for name, text := range pages {
				if err == nil {
					err = os.WriteFile(filepath.Join(args[0], name), text, 0o644)
				}
			}
			if err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			a.say("%d manual pages are in %s", len(pages), args[0])
			return nil
		},
	}
}

// manPages returns the pages by file name.
func manPages(root *cobra.Command, v versionResult) map[string][]byte {
	pages := map[string][]byte{}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		pages[manName(c)+".1"] = manPage(c, v)
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				visit(sub)
			}
		}
	}
	visit(root)
	return pages
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is one page in the man macros, man(7).
func manPage(c *cobra.Command, v versionResult) []byte {
	var b bytes.Buffer
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	date := ""
	if at, err := time.Parse(time.RFC3339, v.Time); err == nil {
		date = at.UTC().Format(time.DateOnly)
	}
	fmt.Fprintf(&b, ".TH %s 1 \"%s\" \"labctl %s\" \"labctl\"\n", strings.ToUpper(roff(manName(c))), date, roff(v.Release))
	b.WriteString(".nh\n.ad l\n") // names and commands must not be broken, nor stretched
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(manName(c)), roff(c.Short))
	section("SYNOPSIS")
	if !c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\\fB%s\\fR%s\n", roff(c.CommandPath()), roff(strings.TrimPrefix(c.UseLine(), c.CommandPath())))
	} else {
		fmt.Fprintf(&b, "\\fB%s\\fR \\fICOMMAND\\fR [flags]\n", roff(c.CommandPath()))
	}
	section("DESCRIPTION")
	roffText(&b, cmp.Or(c.Long, c.Short))
	if c.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n\\fB%s\\fR(1)\n%s\n", roff(manName(sub)), roffLine(sub.Short))
			}
		}
	}
	own := c.NonInheritedFlags()
	if own.HasAvailableFlags() {
		section("OPTIONS")
		own.VisitAll(func(f *pflag.Flag) { roffFlag(&b, f) })
	}
	if c.HasParent() && c.InheritedFlags().HasAvailableFlags() {
		fmt.Fprintf(&b, ".PP\nThe options of all commands are in\n.BR %s (1).\n", roff(manName(c.Root())))
	}
	if c.Example != "" {
		section("EXAMPLES")
		roffText(&b, c.Example)
	}
	section("SEE ALSO")
	var also []string
	if c.HasParent() {
		also = append(also, manName(c.Parent()))
		for _, sub := range c.Parent().Commands() {
			if sub != c && sub.IsAvailableCommand() {
				also = append(also, manName(sub))
			}
		}
	}
	for i, name := range also {
		end := ","
		if i == len(also)-1 {
			end = ""
		}
		fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(name), end)
	}
	if !c.HasParent() {
		b.WriteString("The guides that\n.B labctl help\nlists, which need no network.\n")
	}
	return b.Bytes()
}

func roffFlag(b *bytes.Buffer, f *pflag.Flag) {
	if f.Hidden || f.Deprecated != "" {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	name := `\fB\-\-` + roff(f.Name) + `\fR`
	if f.Shorthand != "" {
		name = `\fB\-` + roff(f.Shorthand) + `\fR, ` + name
	}
	if value != "" {
		name += ` \fI` + roff(value) + `\fR`
	}
	fmt.Fprintf(b, ".TP\n%s\n%s\n", name, roffLine(usage))
}

// roffText writes paragraphs. What is indented, and its empty lines, keeps its
// lines.
func roffText(b *bytes.Buffer, text string) {
	verbatim, gap := false, false
	for i, line := range strings.Split(strings.Trim(text, "\n"), "\n") {
		blank, indented := strings.TrimSpace(line) == "", strings.HasPrefix(line, " ")
		switch {
		case blank:
			gap = true
			continue
		case indented && !verbatim:
			if i > 0 {
				b.WriteString(".PP\n")
			}
			b.WriteString(".nf\n")
		case !indented && verbatim:
			b.WriteString(".fi\n.PP\n")
		case gap && !indented:
			b.WriteString(".PP\n")
		case gap:
			b.WriteString("\n")
		}
		verbatim, gap = indented, false
		b.WriteString(roffLine(line) + "\n")
	}
	if verbatim {
		b.WriteString(".fi\n")
	}
}

// roffLine is a line of text, which a leading dot or quote would make a request.
func roffLine(s string) string {
	s = roff(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// roff writes what is meant for a shell so that it can be copied out of the page:
// the bare characters are a typographer's (groff_char(7)).
// What is not ASCII goes by its number, whatever encoding the reader takes.
func roff(s string) string {
	var b strings.Builder
	for _, r := range roffEscapes.Replace(s) {
		if r > '~' {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`)
