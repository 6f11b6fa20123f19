// Labctl moves, rescues and equips a homelab ESXi host that has one network
// port and no monitor. It fails with an exit code that tells what state things
// were left in: see the constants in fault.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() { os.Exit(run(context.Background(), processEnv())) }

// env is everything a command takes from the process around it. Commands get
// it handed in, so that tests run them without a process.
type env struct {
	args           []string // without the program's name
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(string) (string, bool)   // an environment variable
	terminal       func(stream any) bool         // whether one of the three streams is a terminal
	tty            func() (*os.File, error)      // the controlling terminal, for questions
	now            func() time.Time              //
	signals        func(chan<- os.Signal) func() // starts delivery of interrupts, returns the stop
	leaves         atomic.Pointer[string]        // what an abrupt end would leave behind, see app.leaving
	restore        atomic.Pointer[func()]        // gives the terminal back before an abrupt end
}

func processEnv() *env {
	steer(os.Stdout)
	steer(os.Stderr)
	return &env{
		args:   os.Args[1:],
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		lookup: lookupEnv,
		terminal: func(stream any) bool {
			f, ok := stream.(*os.File)
			return ok && term.IsTerminal(int(f.Fd()))
		},
		tty: openTTY,
		now: time.Now,
		signals: func(c chan<- os.Signal) func() {
			signal.Notify(c, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			// A closed pipe must not end a change half way: writes fail instead.
			broken := make(chan os.Signal, 1)
			signal.Notify(broken, syscall.SIGPIPE)
			return func() { signal.Stop(c); signal.Stop(broken) }
		},
	}
}

func (e *env) get(name string) string {
	v, _ := e.lookup(name)
	return v
}

// errInterrupted is the cause of a context that the first interrupt ended.
var errInterrupted = errors.New("interrupted")

// run carries out one command line and returns the exit code. The first
// interrupt cancels the context and lets the command drain and clean up; the
// second one ends the program. A lost terminal (SIGHUP) counts as a first
// interrupt only: the network change it may come from is no reason to stop a
// clean-up.
func run(ctx context.Context, e *env) int {
	return runCommand(ctx, e, func(ctx context.Context, a *app) int { return a.execute(ctx) })
}

func runCommand(ctx context.Context, e *env, work func(context.Context, *app) int) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	defer e.signals(signals)()

	a := &app{env: e}
	done := make(chan int, 1)
	go func() { done <- work(ctx, a) }()
	for {
		select {
		case code := <-done:
			return code
		case s := <-signals:
			if ctx.Err() == nil {
				cancel(errInterrupted)
				if a.asking.Load() {
					fmt.Fprintln(e.stderr) // the cursor stands behind the question
				}
				a.say("interrupted: finishing what must not stay half done, then cleaning up; a second ctrl-c stops at once")
				continue
			}
			if s == syscall.SIGHUP {
				continue
			}
			if f := e.restore.Load(); f != nil {
				(*f)()
			}
			left := "nothing that labctl knows of"
			if p := e.leaves.Load(); p != nil && *p != "" {
				left = *p
			}
			a.say("stopped at once; what is left: %s", left)
			return exitInterrupted
		}
	}
}
