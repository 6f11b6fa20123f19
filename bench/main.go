// Bench measures what labctl costs: API requests, wall time and lost network of a migration, start-up time and memory,
// beside govc and a minimal govmomi program; the check of recipes; typing with proof of delivery beside a bare loop on
// a real kernel; requests, uploads and side by side boots of VCHs. Both sides of a comparison are in the same run.
//
// The API side runs on loopback against labsim, so its figures are a simulator's. Bench fails when something does not
// work at all, when a limit on requests, bytes or memory is missed, and with -strict also when one on time is. What
// cannot be measured on a machine is skipped, and the report says so.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `usage: go run ./bench [flags]

  -o text|json   how to print the report (default text)
  -runs N        runs of each timed question (default 5)
  -starts N      starts of each program (default 30)
  -only PARTS    of net,recipes,keyboard,vch: these, separated by commas (default all)
  -strict        missed limits on time make the exit code 1 too
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	var output string
	var strict bool
	b := &bench{
		say: func(format string, args ...any) { fmt.Fprintf(stderr, "bench: "+format+"\n", args...) },
		rep: report{Version: 1, Notes: []string{}},
	}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&output, "o", "text", "")
	fs.IntVar(&b.runs, "runs", 5, "")
	fs.IntVar(&b.starts, "starts", 30, "")
	fs.BoolVar(&strict, "strict", false, "")
	fs.Func("only", "", func(s string) error {
		b.only = strings.Split(s, ",")
		for _, name := range b.only {
			if !slices.Contains(parts, name) {
				return fmt.Errorf("there is no part %q, only %s", name, strings.Join(parts, ", "))
			}
		}
		return nil
	})
	err := fs.Parse(args)
	switch {
	case err != nil:
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case output != "text" && output != "json":
		err = fmt.Errorf("-o is text or json, not %q", output)
	case b.runs < 1 || b.starts < 1:
		err = errors.New("at least one run is needed")
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err != nil {
		b.say("%v", err)
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.measure(ctx); err != nil {
		if ctx.Err() != nil {
			b.say("interrupted")
			return 130
		}
		b.say("%v", err)
		return 1
	}
	b.rep.judge()
	if output == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(&b.rep)
	} else {
		b.rep.write(stdout)
	}
	if err != nil {
		b.say("%v", err)
		return 1
	}
	if b.rep.failed(strict) {
		b.say("a limit is missed")
		return 1
	}
	return 0
}
