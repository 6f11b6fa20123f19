package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one run of labctl: the process around it, the global flags, and what
// they amount to.
type app struct {
	*env
	flags    *pflag.FlagSet // the global ones
	set      settings       // flags and environment; settings() adds the config file
	yes      bool
	verbose  bool
	log      *slog.Logger // discards unless -v
	streamed bool         // an event was written, so the result ends a stream

	insecureWarning        sync.Once
	saidFacts              string         // the host whose learned facts were told
	hinted                 string         // the last hint
	nextLine               string         // what to type next, see next
	cmd                    *cobra.Command // that runs; nil before its flags are parsed
	asking                 atomic.Bool    // a question is on the terminal
	load                   func() (*settings, error)
	passwords              passwords
	stdoutLock, stderrLock sync.Mutex
}

// execute runs the command line and returns the exit code. All errors are
// printed here.
func (a *app) execute(ctx context.Context) int {
	a.log = slog.New(slog.DiscardHandler)
	root := a.root()
	root.SetArgs(a.args)
	root.SetIn(a.stdin)
	root.SetOut(patientPipe{a.stdout})
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	a.report(ctx, err)
	a.sayNext(ctx, cmd, err)
	return exitCode(ctx, err)
}

func (a *app) root() *cobra.Command {
	root := a.noun("labctl", "moves, rescues and equips a homelab ESXi host that has one NIC and no monitor",
		`Labctl works on a homelab ESXi host that has one network port, no monitor, and
no second way in.

Its configuration is labctl.yaml in $XDG_CONFIG_HOME/labctl (see: labctl config
init). Without one a host is named by --url https://user@host, and the password
comes from LABCTL_PASSWORD or is asked for.

Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 changes pending, 4 plan is
stale, 5 failed and everything is as it was, 6 failed and not as it was,
7 refused as unsafe, 130 interrupted.`,
		"  labctl net plan nuc01 --to standard",
		a.netCommand(),
		a.vchCommand(),
		a.hostCommand(),
		a.recipeCommand(),
		a.dcuiCommand(),
		a.hidCommand(),
		a.configCommand(),
		a.doctorCommand(),
		a.versionCommand(),
		a.completionCommand(),
		a.manCommand())
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(a.helpCommand())
	root.InitDefaultHelpCmd() // now, so that whoever walks the commands finds it
	root.SetHelpTemplate(`{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}{{if not .HasParent}}
` + guideList() + `
{{end}}`)

	f := root.PersistentFlags()
	a.flags = f
	f.SortFlags = false
	f.String("config", "", "configuration `FILE` (LABCTL_CONFIG; default $XDG_CONFIG_HOME/labctl/labctl.yaml)")
	f.StringP("output", "o", "text", "output `FORMAT`: text or json (LABCTL_OUTPUT)")
	f.BoolVar(&a.yes, "yes", false, "answer questions with yes")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "trace each API request on stderr")
	f.Duration("timeout", 0, "longest `WAIT` for one answer (LABCTL_TIMEOUT; default: each step's own)")
	f.String("color", "auto", "colour: auto, always or never (LABCTL_COLOR, NO_COLOR)")
	f.String("url", "", "host `URL` without a config: https://user@host[:port] (LABCTL_URL, GOVC_URL)")
	f.String("vcenter", "", "`URL` of the vCenter that manages the host (LABCTL_VCENTER)")
	f.String("thumbprint", "", "accept this certificate only: SHA-256 or SHA-1, `HEX` (LABCTL_THUMBPRINT)")
	f.Bool("insecure", false, "accept any certificate; never together with a thumbprint")

	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		set, err := mergeSettings(a.flags, a.lookup, nil)
		if err != nil {
			return err
		}
		a.set, a.cmd = *set, cmd
		a.load = sync.OnceValues(func() (*settings, error) { return loadSettings(a.flags, a.env) })
		if a.verbose {
			a.log = slog.New(tint.NewTextHandler(lockedWriter{a}, &tint.Options{
				Level: slog.LevelDebug, TimeFormat: "15:04:05.000", NoColor: !a.colour(a.stderr),
			}))
		}
		return nil
	}
	root.SetFlagErrorFunc(a.flagError)
	// The walk over all flags costs a tenth of a start, and only a shell that
	// completes asks for it.
	if slices.ContainsFunc(a.args, func(arg string) bool { return strings.HasPrefix(arg, cobra.ShellCompRequestCmd) }) {
		a.completeFlags(root)
	}
	root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	return root
}

// settings returns flags, environment and config file merged. The file is read
// once, by the first command that needs it.
func (a *app) settings() (*settings, error) {
	if a.load == nil { // an error before the flags were parsed
		return &a.set, nil
	}
	return a.load()
}

// noun is a command that only groups others: alone it prints its help, with a
// word it does not know it fails with exit 2.
func (a *app) noun(use, short, long, example string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			var names []string
			for _, c := range cmd.Commands() {
				if !c.Hidden {
					names = append(names, c.Name())
				}
			}
			err := usagef("unknown command %s for %s", args[0], cmd.CommandPath())
			if near := nearest(args[0], names); near != "" {
				return hintf(err, "did you mean %s %s?", cmd.CommandPath(), near)
			}
			if len(names) == 0 {
				return err
			}
			return hintf(err, "%s knows %s", cmd.CommandPath(), strings.Join(names, ", "))
		},
	}
	c.AddCommand(verbs...)
	return c
}

// argsBetween checks the number of arguments; what names them in the error.
func argsBetween(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return hintf(usagef("%s needs %s", cmd.CommandPath(), what), "usage: %s", cmd.UseLine())
		case high == 0 && len(args) > 0:
			return hintf(usagef("%s takes no argument: %s is too much", cmd.CommandPath(), args[0]), "usage: %s", cmd.UseLine())
		case high >= 0 && len(args) > high:
			return hintf(usagef("%s takes no more than %s: %s is too much", cmd.CommandPath(), what, args[high]), "usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// flagError explains a flag that does not parse: where it belongs, or how it
// is spelled.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	usage := usagef("%w", err)
	_, word, ok := strings.Cut(err.Error(), "unknown flag: --")
	if !ok {
		if _, word, ok := strings.Cut(err.Error(), " in -"); ok && len(word) > 1 && cmd.Flag(word) != nil {
			return hintf(usage, "a flag of more than one letter has two dashes: --%s", word)
		}
		return usage
	}
	var names, owners []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	walkCommands(cmd.Root(), func(c *cobra.Command) {
		if c.LocalNonPersistentFlags().Lookup(word) != nil {
			owners = append(owners, c.CommandPath())
		}
	})
	switch near := nearest(word, names); {
	case len(owners) > 0:
		return hintf(usage, "--%s belongs to %s: put it after that command", word, strings.Join(owners, ", "))
	case near != "":
		return hintf(usage, "did you mean --%s?", near)
	}
	return hintf(usage, "%s --help lists the flags", cmd.CommandPath())
}

func walkCommands(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walkCommands(sub, visit)
	}
}

// nearest returns the candidate that word was likely meant to be, or "".
func nearest(word string, candidates []string) string {
	best, limit := "", max(1, len(word)/3)
	for _, c := range candidates {
		if d := distance(word, c); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the number of single-character edits between a and b
// (Levenshtein), by rows.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// leaving records what an abrupt end would leave behind, for the last line of
// a second ctrl-c. An empty text takes it back.
func (a *app) leaving(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	a.leaves.Store(&s)
}

// patientPipe takes help that nobody reads to its end, as in labctl help | head:
// cobra would complain of it on stderr.
type patientPipe struct{ io.Writer }

func (w patientPipe) Write(b []byte) (int, error) {
	if _, err := w.Writer.Write(b); err != nil && !errors.Is(err, syscall.EPIPE) {
		return 0, err
	}
	return len(b), nil
}

// lockedWriter keeps trace lines from running into other lines on stderr.
type lockedWriter struct{ a *app }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.a.stderrLock.Lock()
	defer w.a.stderrLock.Unlock()
	return w.a.stderr.Write(b)
}

// statePath returns a place below $XDG_STATE_HOME/labctl without making it.
func (a *app) statePath(name string) (string, error) {
	base, err := a.baseDir("XDG_STATE_HOME", ".local/state")
	return filepath.Join(base, "labctl", name), err
}

// stateDir makes a folder below $XDG_STATE_HOME/labctl that only this user can
// read: journals, locks, facts. An empty name is the folder itself.
func (a *app) stateDir(name string) (string, error) {
	dir, err := a.statePath(name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the state folder: %w", err)
	}
	return dir, nil
}

// baseDir follows the XDG base directory specification, which tells to ignore
// a relative path in the variable.
func (e *env) baseDir(variable, fallback string) (string, error) {
	if dir := e.get(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := e.get("HOME")
	if home == "" {
		return "", usagef("neither %s nor HOME is set: no place for labctl's files", variable)
	}
	return filepath.Join(home, filepath.FromSlash(fallback)), nil
}

// completeHosts offers the names of the configured hosts.
func (a *app) completeHosts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := loadSettings(a.flags, a.env)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, h := range s.Hosts {
		if !slices.Contains(args, h.Name) {
			names = append(names, h.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
