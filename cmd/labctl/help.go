package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/labctl/labctl/docs"
)

// guide is a file of docs/ under the names it goes by here.
type guide struct {
	file    string
	names   []string // the first is shown
	summary string
}

// guides are in the order in which somebody new would read them.
var guides = []guide{
	{"net.md", []string{"net"}, "the move between switches, from the first look to the clean-up"},
	{"rescue.md", []string{"rescue"}, "the host is gone: what to do, in order"},
	{"recipes.md", []string{"recipe", "recipes"}, "to read, write, check and record recipes"},
	{"keyboard.md", []string{"keyboard", "hid"}, "how keys reach a host, and how to know that they did"},
	{"pi.md", []string{"pi", "wiring"}, "a Raspberry Pi as keyboard: which one, which port, which wire to cut"},
	{"dcui.md", []string{"dcui", "model", "evidence"}, "what labctl knows of the console, and what that rests on"},
	{"vch.md", []string{"vch"}, "container hosts, from an old bundle to the last file"},
	{"exit-codes.md", []string{"exit-codes", "outcomes"}, "what each exit code and outcome says of the host"},
	{"errors.md", []string{"errors", "codes"}, "every refusal, finding and risk by its code, and the way out"},
	{"security.md", []string{"security"}, "what is stored, what is sent to whom, what a stolen Pi gives away"},
	{"compare.md", []string{"compare"}, "beside vic-machine, govc, PowerCLI, Ansible, PiKVM, Packer, DuckyScript"},
	{"faults.md", []string{"faults"}, "the fault matrix: labctl and the moves that people try"},
	{"bench.md", []string{"bench"}, "what labctl costs, measured"},
}

// codeGuides have a heading for each code that commands end with or print.
var codeGuides = []string{"errors.md", "exit-codes.md"}

// maxText is the widest that guides get: longer lines are hard to read.
const maxText = 88

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [TOPIC | CODE | COMMAND …]", Short: "Guides to read without a network, codes, and help about a command",
		Long: `Help shows the guides that labctl carries inside itself, what a code means that
labctl has printed (an exit code, a refusal, a finding, a risk), and the help of a
command. Alone it lists the guides. Where a guide and a command have the same
name, help shows the guide and COMMAND --help the command's own.`,
		Example: "  labctl help rescue\n  labctl help link-down\n  labctl help 6\n  labctl help net plan",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			c, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var words []string
			if len(args) == 0 {
				for _, g := range guides {
					words = append(words, g.names[0]+"\t"+g.summary)
				}
				words = append(words, helpCodes()...)
			}
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() && findGuide(sub.Name()) == nil {
					words = append(words, sub.Name()+"\t"+sub.Short)
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.help(cmd.Root(), args) },
	}
}

func (a *app) help(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !a.json() {
			return root.Help()
		}
		r := helpIndex{Version: 1, Codes: helpCodes()}
		for _, g := range guides {
			r.Topics = append(r.Topics, helpTopic{g.names[0], g.summary})
		}
		return a.result(r, nil)
	}
	if g := findGuide(args[0]); g != nil {
		src := guideText(g.file)
		if len(args) == 1 {
			return a.showGuide(args[0], src)
		}
		if part, of := codeSection(src, args[1]); part != "" {
			return a.showCode(args[1], part, of)
		}
	}
	if c, rest, err := root.Find(args); err == nil && len(rest) == 0 {
		return c.Help()
	}
	if len(args) == 1 {
		for _, file := range codeGuides {
			if part, of := codeSection(guideText(file), args[0]); part != "" {
				return a.showCode(args[0], part, of)
			}
		}
	}
	return hintf(usagef("no help for %s: there is no such command, guide or code", strings.Join(args, " ")), "%s", nearHelp(root, args))
}

func nearHelp(root *cobra.Command, args []string) string {
	if len(args) == 1 {
		words := helpCodes()
		for _, g := range guides {
			words = append(words, g.names...)
		}
		for _, c := range root.Commands() {
			words = append(words, c.Name())
		}
		if near := nearest(args[0], words); near != "" {
			return "did you mean labctl help " + near + "?"
		}
	}
	return "labctl help lists commands and guides; labctl help errors has every code"
}

func findGuide(name string) *guide {
	for i := range guides {
		if slices.Contains(guides[i].names, strings.TrimSuffix(strings.ToLower(name), ".md")) {
			return &guides[i]
		}
	}
	return nil
}

// guideText reads a guide. One that is missing is a mistake in the build, which
// a test rules out.
func guideText(file string) string {
	b, err := fs.ReadFile(docs.Guides, file)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// headingCode is the code that a heading explains: its words up to a colon.
func headingCode(h heading) string {
	code, _, _ := strings.Cut(plainText(h.text), ":")
	return strings.ToLower(code)
}

// codeSection returns the part of a guide whose heading is for the code, and the
// heading above it. An exit code may be called exit-6 as well as 6.
func codeSection(src, code string) (part, of string) {
	code = strings.ToLower(code)
	if n, ok := strings.CutPrefix(code, "exit-"); ok {
		if _, err := strconv.Atoi(n); err == nil {
			code = n
		}
	}
	all := headings(src)
	for i, h := range all {
		switch {
		case h.level == 2:
			of = plainText(h.text)
		case h.level == 3 && headingCode(h) == code:
			return section(src, all, i), of
		}
	}
	return "", ""
}

func isCode(src, code string) bool {
	part, _ := codeSection(src, code)
	return part != ""
}

// helpCodes are the codes that help explains.
func helpCodes() []string {
	var out []string
	for _, file := range codeGuides {
		for _, h := range headings(guideText(file)) {
			if code := headingCode(h); h.level == 3 && !strings.Contains(code, " ") && !slices.Contains(out, code) {
				out = append(out, code)
			}
		}
	}
	return out
}

type helpIndex struct {
	Version int         `json:"version"`
	Topics  []helpTopic `json:"topics"` // the guides
	Codes   []string    `json:"codes"`  // codes that help explains
}

type helpTopic struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
}

type helpResult struct {
	Version  int    `json:"version"`
	Topic    string `json:"topic"`
	Markdown string `json:"markdown"` // the text, as it stands in docs/
}

func (a *app) showGuide(topic, src string) error { return a.showCode(topic, src, "") }

// showCode shows a part of a guide, with what it is part of behind its heading.
func (a *app) showCode(topic, src, of string) error {
	return a.result(helpResult{1, topic, src}, func(p *page) {
		text := src
		if title, rest, ok := strings.Cut(src, "\n"); ok && of != "" {
			text = title + " (" + of + ")\n" + rest
		}
		s := &sheet{p: p, width: a.textWidth(), link: guideLink}
		s.write(text)
	})
}

// textWidth is the width of the terminal, and 80 where there is none.
func (a *app) textWidth() int {
	if f, ok := a.stdout.(*os.File); ok && a.terminal(f) {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return min(w, maxText)
		}
	}
	return 80
}

// guideLink turns a link between guides into the command that shows it.
func guideLink(target string) string {
	if strings.Contains(target, "://") {
		return target
	}
	file, anchor, _ := strings.Cut(target, "#")
	for _, g := range guides {
		switch {
		case path.Base(file) != g.file && !(file == "" && anchor != ""):
			continue
		case anchor != "" && file != "" && slices.Contains(codeGuides, g.file) && isCode(guideText(g.file), anchor):
			return "labctl help " + anchor
		case file != "":
			return "labctl help " + g.names[0]
		}
	}
	return ""
}

// guideList is the part of labctl's own help that names the guides.
func guideList() string {
	var out strings.Builder
	out.WriteString("Guides, inside this program (labctl help NAME):\n")
	for _, g := range guides {
		fmt.Fprintf(&out, "  %-11s %s\n", g.names[0], g.summary)
	}
	return strings.TrimRight(out.String(), "\n")
}
