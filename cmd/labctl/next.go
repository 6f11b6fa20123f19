package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes"
)

// The last line that a command says is the next sensible command, as it would be
// typed: "labctl: hint: WHY: labctl …". Commands name it with next; where one
// fails and names none, sayNext finds one. With -o json only failures say it.

// next names what to type next. The last call holds.
func (a *app) next(why string, words ...string) { a.nextLine = why + ": " + a.line(words...) }

// line is a labctl command line that can be pasted: with the flags that said
// where the config or the host is, as the next command needs them too.
func (a *app) line(words ...string) string { return bareLine(words...) + whereFlags(a.flags, words) }

func bareLine(words ...string) string {
	line := "labctl"
	for _, w := range words {
		line += " " + shellWord(w)
	}
	return line
}

// whereFlags are the global flags that said where the config or the host is, but
// for those that words hold.
func whereFlags(flags *pflag.FlagSet, words []string) (line string) {
	if flags == nil {
		return ""
	}
	for _, name := range []string{"config", "url", "vcenter", "thumbprint", "insecure"} {
		if f := flags.Lookup(name); f != nil && f.Changed && !slices.Contains(words, "--"+name) {
			line += flagWords(f)
		}
	}
	return line
}

// like is a line for another command with the flags that this one was given, as
// far as the other has them too.
func (a *app) like(words ...string) string {
	if a.cmd == nil {
		return a.line(words...)
	}
	other, _, err := a.cmd.Root().Find(words)
	if err != nil {
		return a.line(words...)
	}
	line := ""
	a.cmd.LocalNonPersistentFlags().Visit(func(f *pflag.Flag) {
		if f.Name != "help" && other.LocalNonPersistentFlags().Lookup(f.Name) != nil &&
			(f.Value.Type() == "stringArray" || !slices.Contains(words, "--"+f.Name)) {
			line += flagWords(f)
		}
	})
	return bareLine(words...) + line + whereFlags(a.flags, words)
}

// again is the command line of this run with more flags behind it.
func (a *app) again(more ...string) string {
	line := "labctl"
	for _, w := range append(slices.Clone(a.args), more...) {
		line += " " + shellWord(maskURL(w))
	}
	return line
}

// flagWords spells a flag as it was given.
func flagWords(f *pflag.Flag) (words string) {
	if many, ok := f.Value.(pflag.SliceValue); ok {
		for _, v := range many.GetSlice() {
			words += " --" + f.Name + " " + shellWord(v)
		}
		return words
	}
	if f.Value.Type() == "bool" {
		if f.Value.String() == "true" {
			return " --" + f.Name
		}
		return " --" + f.Name + "=false"
	}
	return " --" + f.Name + " " + shellWord(maskURL(f.Value.String()))
}

// asRoot puts sudo before a line where this is another user's process.
func asRoot(line string) string {
	if os.Geteuid() == 0 {
		return line
	}
	return "sudo " + line
}

// endsInCommand finds a command line at the end of a hint: one to paste, and not
// a usage line.
var endsInCommand = regexp.MustCompile(`(^|: )(sudo )?labctl( [a-z-][^\[\]…]*)?$`)

// sayNext says the last line.
func (a *app) sayNext(ctx context.Context, cmd *cobra.Command, err error) {
	if err == nil {
		if a.nextLine != "" && !a.json() {
			a.hint("%s", a.nextLine)
		}
		return
	}
	switch {
	case errors.Is(err, syscall.EPIPE), context.Cause(ctx) == errInterrupted && errors.Is(err, context.Canceled):
	case a.nextLine != "":
		a.hint("%s", a.nextLine)
	case err.Error() == "" && a.hinted == "": // an exit code that says what there is to say
	case !endsInCommand.MatchString(a.hinted):
		a.hint("%s", a.otherwise(ctx, cmd, err))
	}
}

// otherwise is the next command after a failure that names none itself: what
// was wrong with the line, how to reach the host, or a look at everything.
func (a *app) otherwise(ctx context.Context, cmd *cobra.Command, err error) string {
	var login *esxi.LoginError
	var lost *esxi.FindError
	var password *passwordError
	var file fileErrors
	switch path := cmd.CommandPath(); {
	case errors.As(err, &file):
		return "when it is corrected: " + a.line("config", "check")
	case errors.As(err, &password):
		return "where each password comes from: " + a.line("config", "show", "--origin")
	case errors.As(err, &login):
		return "when user or password is corrected: " + a.line("doctor")
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && (strings.HasPrefix(path, "labctl hid") || path == "labctl recipe run"):
		return "as root: sudo " + a.again()
	case errors.As(err, &lost):
		return "what is configured, and as what: " + a.line("host", "ls")
	case exitCode(ctx, err) == exitUsage:
		return "its arguments and flags: " + path + " --help"
	case strings.HasPrefix(path, "labctl hid"):
		return "what keeps this machine from being a keyboard: " + a.line("hid", "doctor")
	case path == "labctl doctor":
		return "when that is mended: " + a.line("doctor")
	}
	return "a look at everything that can be wrong: " + a.line("doctor")
}

// slashed spells a recipe's file so that it is not taken for a name.
func slashed(file string) string {
	if strings.ContainsAny(file, "/\\") || strings.HasSuffix(file, ".yaml") || strings.HasSuffix(file, ".yml") {
		return file
	}
	return "./" + file
}

// afterVerdict leads from a verdict to the rehearsal, or to what is missing.
func (a *app) afterVerdict(arg, host string, v *recipes.Verdict) {
	others := ""
	if s, err := a.settings(); err == nil && len(s.Hosts) > 0 {
		others = s.Hosts[0].Name
	}
	switch {
	case v.Verdict == recipes.Safe:
		a.nextLine = "to play it on a simulated host: " + a.like("recipe", "rehearse", arg)
	case len(v.Missing) == 0:
		a.nextLine = "its file, its keys and where they lead: " + a.like("recipe", "show", arg)
	case host == "" && others != "":
		a.nextLine = "for a host of which more is known: " + a.like("recipe", "check", arg, "--host", others)
	case host != "" && len(a.learned(host).Facts) == 0:
		a.next("what its API tells of its console", "host", "learn", host)
	default:
		m := v.Missing[0]
		a.nextLine = "with one more fact, such as: " + a.like("recipe", "check", arg, "--fact", m.Fact+"="+m.Splits[0])
	}
}

// afterRun leads from a recipe that was typed to the host it was typed into.
func (a *app) afterRun(j *job, err error) {
	switch {
	case j.rehearse && err != nil:
		a.next("what it does in each world", "recipe", "check", j.arg)
	case j.rehearse && j.host != nil && j.host.URL != "":
		a.next("to type it into the host", "recipe", "run", j.arg, "--host", j.host.Name)
	case j.rehearse:
		if s, err := a.settings(); err == nil && s.onlyAddress() != nil {
			a.next("whether it is right for a real host", "recipe", "check", j.arg, "--host", s.onlyAddress().Name)
		} else {
			a.next("what it does in each world", "recipe", "check", j.arg)
		}
	case j.host != nil && j.host.URL != "":
		m, failed := a.latestJournal(j.host.Name)
		if failed == nil && m != nil {
			defer m.Close()
			if m.Open() {
				a.next("its move is not finished; to go on from there", "net", "resume", j.host.Name)
				return
			}
		}
		a.next("where the host stands", "net", "status", j.host.Name)
	}
}
