package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/labctl/labctl/esxi"
)

// Scripts run labctl as a process of its own. Beside testscript's commands they
// have:
//
//	exits N command …    runs a command that must end with exit code N
//	labsim [flags]       starts the simulated homelab; LABCTL_CONFIG leads to it
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

// buildLabsim builds the simulator once for all scripts that need it.
var buildLabsim = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "labsim")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "labsim")
	if out, err := exec.Command("go", "build", "-o", path, "../labsim").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build labsim: %w\n%s", err, out)
	}
	return path, nil
})

func scriptLabsim(ts *testscript.TestScript, neg bool, args []string) {
	path, err := buildLabsim()
	ts.Check(err)
	config := ts.MkAbs("lab.yaml")
	cmd := exec.Command(path, append([]string{"--write-config", config}, args...)...)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Wait()
	})
	said := make(chan string, 1)
	go func() {
		var all strings.Builder
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&all, lines.Text())
			if strings.HasPrefix(lines.Text(), "LABCTL_CONFIG=") {
				break
			}
		}
		said <- all.String()
		io.Copy(io.Discard, stderr)
	}()
	ready, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || ready != "ready\n" {
		ts.Fatalf("labsim says %q, %v:\n%s", ready, err, <-said)
	}
	_, address, ok := strings.Cut(<-said, "http://")
	if !ok {
		ts.Fatalf("labsim names no control address")
	}
	address, _, _ = strings.Cut(address, "\n")
	ts.Setenv("LABSIM_CONTROL", "http://"+address)
	ts.Setenv("LABCTL_CONFIG", config)
}

func scriptControl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: control METHOD PATH [JSON]")
	}
	req, err := http.NewRequest(args[0], ts.Getenv("LABSIM_CONTROL")+args[1], strings.NewReader(strings.Join(args[2:], " ")))
	ts.Check(err)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		ts.Fatalf("%s %s: %s: %s", args[0], args[1], res.Status, body)
	}
	fmt.Fprint(ts.Stdout(), string(body))
}
