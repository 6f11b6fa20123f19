package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/recipes"
)

// formatWords names the foreign formats.
const formatWords = "ducky (DuckyScript) or packer (boot_command)"

func formatFlag(c *cobra.Command, format *string) {
	c.Flags().StringVar(format, "format", "", "foreign `FORMAT`: "+formatWords)
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(recipes.Formats(), cobra.ShellCompDirectiveNoFileComp))
}

// knownFormat judges --format; its error has exit code 2.
func knownFormat(format string) error {
	switch {
	case format == "":
		return usagef("--format is missing: %s", formatWords)
	case !slices.Contains(recipes.Formats(), format):
		return usagef("--format %s: want %s", format, formatWords)
	}
	return nil
}

// writeNew writes a file that does not exist yet, or replaces one with --yes.
func (a *app) writeNew(file string, src []byte) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if a.yes {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, mode, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return hintf(usagef("%s exists", file), "--yes replaces it")
	case err != nil:
		return usagef("%w", err)
	}
	_, err = f.Write(src)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// foreign is the result of export and import. The JSON is a contract.
type foreign struct {
	Version int    `json:"version"`
	Recipe  string `json:"recipe"`
	Format  string `json:"format"`
	File    string `json:"file,omitempty"`   // what was written
	Source  string `json:"source,omitempty"` // or its text
}

// give prints a text or writes it into a file.
func (a *app) give(out foreign, file string, src []byte) error {
	out.Version = 1
	if file == "" {
		out.Source = string(src)
		if a.json() {
			return a.result(out, nil)
		}
		_, err := a.stdout.Write(src)
		return err
	}
	if err := a.writeNew(file, src); err != nil {
		return err
	}
	out.File = file
	if strings.HasPrefix(a.cmd.CommandPath(), "labctl recipe import") {
		a.next("whether it is right for a host", "recipe", "check", slashed(file))
	}
	return a.result(out, func(p *page) { p.printf("wrote %s\n", file) })
}

func (a *app) recipeExportCommand() *cobra.Command {
	var f compiling
	var format, file string
	c := &cobra.Command{
		Use: "export NAME|FILE --format FORMAT", Short: "A recipe's keys for other tools: DuckyScript, Packer",
		Long: `Export writes the keys that a recipe comes to for what is known of the host. Such a
script is right for those hosts only: nothing in it looks at the lights or waits
for an answer, and what the check finds missing is said. Secrets, and variables
without a value, stay names in it.`,
		Example: "  labctl recipe export restore-standard-switch --format ducky --fact esxi=7.0 --fact management=distributed",
		Args:    argsBetween(1, 1, "the name of a recipe, or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownFormat(format); err != nil {
				return err
			}
			r, err := a.findRecipe(args[0])
			if err != nil {
				return err
			}
			facts, err := a.consoleFacts(cmd, f.facts)
			if err != nil {
				return err
			}
			v, err := f.values(r)
			if err != nil {
				return err
			}
			p, err := a.compile(r, facts, v)
			if err != nil {
				return err
			}
			verdict, err := p.Check(cmd.Context())
			if err != nil {
				return a.recipeFault(err)
			}
			src, err := recipes.Export(p, format)
			var bad *recipes.ExportError
			if errors.As(err, &bad) {
				return usagef("%w", err)
			} else if err != nil {
				return a.recipeFault(err)
			}
			if verdict.Verdict != recipes.Safe {
				a.warn("%s is %s for what is known of the host, and a script cannot refuse: labctl recipe check %s", r.Name, verdictWords(verdict), args[0])
			}
			return a.give(foreign{Recipe: r.Name, Format: format}, file, src)
		},
	}
	f.add(a, c)
	formatFlag(c, &format)
	c.Flags().StringVar(&file, "out", "", "write to a `FILE` instead of stdout")
	return c
}

func verdictWords(v *recipes.Verdict) string {
	if v.Verdict == recipes.NeedsFacts {
		return "in need of facts"
	}
	return string(v.Verdict)
}

func (a *app) recipeImportCommand() *cobra.Command {
	var format, file, risk string
	var o recipes.ImportOptions
	c := &cobra.Command{
		Use: "import FILE", Short: "A recipe from DuckyScript or from Packer's boot_command",
		Long: `Import turns the keys of another tool into a recipe of raw keys, which can then be
checked in every world like any other. It is declared destructive unless --risk
says otherwise; the check goes by what the keys do.

The format follows from the file's ending (.txt, .duck and .ducky are DuckyScript,
.json and .hcl Packer's) unless --format gives it.`,
		Example: "  labctl recipe import restore.duck --out ./restore.yaml\n  labctl recipe check ./restore.yaml",
		Args:    argsBetween(1, 1, "a file"),
		RunE: func(_ *cobra.Command, args []string) error {
			if format == "" {
				switch strings.ToLower(filepath.Ext(args[0])) {
				case ".txt", ".duck", ".ducky", ".dd":
					format = recipes.Ducky
				case ".json", ".hcl":
					format = recipes.Packer
				}
			}
			if err := knownFormat(format); err != nil {
				return err
			}
			src, err := os.ReadFile(args[0])
			if err != nil {
				return usagef("read the script: %w", err)
			}
			switch o.Risk = recipes.Risk(risk); o.Risk {
			case "", recipes.ReadOnly, recipes.Toggle, recipes.Disruptive, recipes.Destructive:
			default:
				return usagef("--risk %s: want read-only, toggle, disruptive or destructive", risk)
			}
			if o.Layout != "" {
				l, err := findLayout(o.Layout)
				if err != nil {
					return err
				}
				o.Layout = l.Short()
			}
			if o.Name == "" {
				base := filepath.Base(args[0])
				o.Name = strings.TrimSuffix(base, filepath.Ext(base))
			}
			out, err := recipes.Import(format, args[0], src, o)
			if err != nil {
				return a.recipeFault(err)
			}
			r, err := recipes.Parse(args[0], out)
			if err != nil {
				return fmt.Errorf("import %s: the recipe that came of it has faults: %w", args[0], err)
			}
			return a.give(foreign{Recipe: r.Name, Format: format}, file, out)
		},
	}
	formatFlag(c, &format)
	fs := c.Flags()
	fs.StringVar(&file, "out", "", "write to a `FILE` instead of stdout")
	fs.StringVar(&o.Name, "name", "", "`NAME` of the recipe (default: the file's)")
	fs.StringVar(&o.Summary, "summary", "", "what it does, in a `LINE`")
	fs.StringVar(&risk, "risk", "", "`RISK` that it declares: read-only, toggle, disruptive or destructive (default: destructive)")
	fs.StringVar(&o.Layout, "layout", "", "keyboard `LAYOUT` that the script was written for (default: us)")
	c.RegisterFlagCompletionFunc("layout", completeLayouts)
	c.RegisterFlagCompletionFunc("risk", cobra.FixedCompletions([]string{"read-only", "toggle", "disruptive", "destructive"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}
