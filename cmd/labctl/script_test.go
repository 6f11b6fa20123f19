package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/sim/labproc"
)

// Scripts run labctl as a process of its own. Beside testscript's commands they
// have:
//
//	exits N command …    runs a command that must end with exit code N
//	labsim [flags]       starts the simulated homelab; LABCTL_CONFIG leads to it
//	expand FILE          puts variables' values into a file
//	control METHOD PATH [JSON]    asks its control address; the answer is stdout
//
// and the variables TLS_URL and TLS_SHA256 of a server that shows a certificate.
func TestScripts(t *testing.T) {
	server := tlsServer(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("TERM", "xterm")
			e.Setenv("TLS_URL", server.URL)
			e.Setenv("TLS_SHA256", esxi.SHA256Fingerprint(server.Certificate()))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   scriptExits,
			"labsim":  scriptLabsim,
			"control": scriptControl,
			"expand":  scriptExpand,
		},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N command …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func scriptLabsim(ts *testscript.TestScript, neg bool, args []string) {
	p, err := labproc.Start(ts.MkAbs("."), args...)
	ts.Check(err)
	ts.Defer(func() { p.Stop() })
	ts.Setenv("LABSIM_CONTROL", p.Control)
	ts.Setenv("LABCTL_CONFIG", p.Config)
	src := ts.ReadFile(p.Config)
	c, err := parseConfig(p.Config, []byte(src))
	ts.Check(err)
	ts.Setenv("LABSIM_ESXI", c.Hosts[0].URL)
	ts.Setenv("LABSIM_VCENTER", c.VCenter.URL)
	for name, file := range map[string]string{"LABSIM_PASSWORD": c.Hosts[0].PasswordFile, "LABSIM_VCENTER_PASSWORD": c.VCenter.PasswordFile} {
		if file != "" {
			ts.Setenv(name, strings.TrimSpace(ts.ReadFile(file)))
		}
	}
}

func scriptControl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: control METHOD PATH [JSON]")
	}
	p := labproc.Lab{Control: ts.Getenv("LABSIM_CONTROL")}
	body, err := p.Ask(args[0], args[1], strings.Join(args[2:], " "))
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), string(body))
}

func scriptExpand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	file := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(file, []byte(os.Expand(ts.ReadFile(file), ts.Getenv)), 0o600))
}
