package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/labctl/labctl/esxi"
)

// Exit codes. Scripts branch on them, so none ever changes its meaning.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // usage or bad input
	exitPending     = 3   // a plan holds changes, or a journal is open
	exitStale       = 4   // the plan no longer fits the host
	exitUnchanged   = 5   // failed, everything is as it was
	exitChanged     = 6   // failed, not as it was
	exitUnsafe      = 7   // refused
	exitInterrupted = 130 // by a signal, after clean-up
)

// fault is an error with what the command line adds to it: an exit code and
// advice. Packages below cmd return plain errors.
type fault struct {
	code int // 0: not decided here
	err  error
	hint string
}

func (f *fault) Error() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (f *fault) Unwrap() error { return f.err }

// exitWith gives err an exit code. A nil err ends the program with that code
// and says nothing more.
func exitWith(code int, err error) error { return &fault{code: code, err: err} }

// usagef is an error in what the user gave: exit 2.
func usagef(format string, args ...any) error {
	return &fault{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// hintf adds advice to err, printed on its own line. A nil err stays nil.
func hintf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &fault{err: err, hint: fmt.Sprintf(format, args...)}
}

// hintOf returns the outermost advice in err's chain, else another.
func hintOf(err error, otherwise string) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if f, ok := e.(*fault); ok && f.hint != "" {
			return f.hint
		}
	}
	return otherwise
}

// exitCode returns the outermost code in err's chain. What no one decided is a
// failure, or an interrupt where one came.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if f, ok := e.(*fault); ok && f.code != 0 {
			return f.code
		}
	}
	var lost *esxi.FindError
	var file fileErrors
	switch {
	case context.Cause(ctx) == errInterrupted:
		return exitInterrupted
	case errors.As(err, &lost), errors.As(err, &file):
		return exitUsage
	}
	return exitFailed
}

// report prints err and its advice to stderr, the fact before the advice.
func (a *app) report(ctx context.Context, err error) {
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return
	}
	var file fileErrors
	switch text := err.Error(); {
	case errors.As(err, &file):
		a.reportFile(file)
	case context.Cause(ctx) == errInterrupted && errors.Is(err, context.Canceled):
		// The line that answered the interrupt says it all.
	case text != "":
		a.say("%s", text)
	}
	said := map[string]bool{}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if f, ok := e.(*fault); ok && f.hint != "" && !said[f.hint] {
			said[f.hint] = true
			a.hint("%s", f.hint)
		}
	}
	if h := a.advice(err); h != "" && len(said) == 0 {
		a.hint("%s", h)
	}
}

// advice knows what helps against the errors of package esxi. They come up in
// every command that talks to a host, so the advice stands here once.
func (a *app) advice(err error) string {
	var (
		pin       *esxi.PinError
		untrusted *esxi.UntrustedError
		login     *esxi.LoginError
		dial      *esxi.DialError
	)
	switch {
	case errors.As(err, &pin):
		return "if the certificate was replaced on purpose, this shows both and asks: " + a.trustCommand(pin.Host)
	case errors.As(err, &untrusted):
		return "this shows the certificate and asks whether to trust it: " + a.trustCommand(untrusted.Host)
	case errors.As(err, &login):
		return "hosts lock an account for a while after a few wrong passwords: check both before the next try"
	case errors.As(err, &dial) && dial.Timeout:
		return "is the address right, the host powered on and its management agent running? --timeout allows more time"
	}
	return ""
}

// trustCommand returns the command line that trusts the endpoint at hostPort,
// by the name that the config gives it.
func (a *app) trustCommand(hostPort string) string {
	// A thumbprint that was given is the one that did not fit.
	trust := func(whose string) string {
		return bareLine("host", "trust", whose) + whereFlags(a.flags, []string{"--thumbprint", "--insecure", "--url"})
	}
	if s, err := a.settings(); err == nil {
		if u, _, err := esxi.ParseURL(s.VCenter.URL); err == nil && s.VCenter.URL != "" && endpointKey(u) == hostPort {
			return trust("vcenter")
		}
		for _, h := range s.Hosts {
			if u, _, err := esxi.ParseURL(h.URL); err == nil && h.URL != "" && endpointKey(u) == hostPort {
				return trust(h.Name)
			}
		}
	}
	return bareLine("host", "trust", "--url", "https://"+strings.TrimSuffix(hostPort, ":443"))
}
