// Package labproc runs labsim as a process of its own, for tests: vSphere is
// then spoken over the wire to somebody else. What fails is told together with
// what labsim said.
package labproc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

var built struct {
	sync.Mutex
	dir  string
	errs map[string]error // of each command that was built, or was tried to
}

// Program builds a command of this module, named by its folder below cmd, once
// for the whole process, and returns the file. Without the race detector and
// cgo: it is the tests that are watched, and what users get is static. Clean
// removes all of them.
func Program(command string) (string, error) {
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "labctl-built-")
		if err != nil {
			return "", err
		}
		built.dir, built.errs = dir, map[string]error{}
	}
	file := filepath.Join(built.dir, command)
	err, done := built.errs[command]
	if !done {
		cmd := exec.Command("go", "build", "-o", file, "github.com/labctl/labctl/cmd/"+command)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("build %s: %w\n%s", command, failed, out)
		}
		built.errs[command] = err
	}
	return file, err
}

// Clean removes what Program built.
func Clean() error {
	built.Lock()
	defer built.Unlock()
	dir := built.dir
	built.dir = ""
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}

// Endpoint is an API of the lab, as labsim tells of it.
type Endpoint struct{ Name, URL, User, Thumbprint string }

// Lab is a labsim that is ready.
type Lab struct {
	Control   string     // the control server, http://ADDR
	Config    string     // the configuration that it wrote, lab.yaml
	Endpoints []Endpoint // the vCenter first, where there is one

	cmd  *exec.Cmd
	said string // the file with its stderr
}

// readyWithin is far more than the second or two that a lab of 300 machines
// needs on two cores.
const readyWithin = time.Minute

var (
	endpointLine = regexp.MustCompile(`(?m)^(\S+)\s+(https://\S+) user (\S+) thumbprint (\S+)$`)
	controlLine  = regexp.MustCompile(`(?m)^control\s+(http://\S+)$`)
)

// Start runs labsim with these flags and waits until all of its endpoints
// answer. The configuration, the passwords and what it says are in files in
// dir.
func Start(dir string, flags ...string) (*Lab, error) {
	program, err := Program("labsim")
	if err != nil {
		return nil, err
	}
	l := &Lab{Config: filepath.Join(dir, "lab.yaml"), said: filepath.Join(dir, "labsim.err")}
	// A file, so that what was said before "ready" is in it by then.
	stderr, err := os.Create(l.said)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	l.cmd = exec.Command(program, append([]string{"--write-config", l.Config}, flags...)...)
	l.cmd.Stdout, l.cmd.Stderr = w, stderr
	err = l.cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	ready := make([]byte, len("ready\n"))
	_ = out.SetReadDeadline(time.Now().Add(readyWithin)) // where a pipe takes none, the test's own limit ends the wait
	_, err = io.ReadFull(out, ready)
	said, readErr := os.ReadFile(l.said)
	if err = errors.Join(err, readErr); err != nil || string(ready) != "ready\n" {
		_ = l.cmd.Process.Kill()
		return nil, fmt.Errorf("labsim is not ready: %q %w %w\n%s", ready, err, l.cmd.Wait(), said)
	}
	for _, m := range endpointLine.FindAllStringSubmatch(string(said), -1) {
		l.Endpoints = append(l.Endpoints, Endpoint{m[1], m[2], m[3], m[4]})
	}
	if m := controlLine.FindStringSubmatch(string(said)); m != nil {
		l.Control = m[1]
	}
	if len(l.Endpoints) == 0 || l.Control == "" {
		return nil, errors.Join(fmt.Errorf("labsim names no addresses:\n%s", said), l.Stop())
	}
	return l, nil
}

// Stop interrupts labsim and waits until it has ended.
func (l *Lab) Stop() error {
	_ = l.cmd.Process.Signal(os.Interrupt) // it may have ended by itself, which Wait tells
	kill := time.AfterFunc(10*time.Second, func() { _ = l.cmd.Process.Kill() })
	defer kill.Stop()
	if err := l.cmd.Wait(); err != nil {
		said, _ := os.ReadFile(l.said)
		return fmt.Errorf("labsim ended with %w:\n%.6000s", err, said)
	}
	return nil
}

// Password is that of an endpoint.
func (l *Lab) Password(endpoint string) (string, error) {
	b, err := os.ReadFile(l.Config + "." + endpoint + ".password")
	return strings.TrimSpace(string(b)), err
}

// Ask sends a request to the control server and returns the answer's body.
func (l *Lab) Ask(method, path, body string) ([]byte, error) {
	req, err := http.NewRequest(method, l.Control+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		return nil, fmt.Errorf("%s %s %s: %s %w\n%s", method, path, body, res.Status, err, b)
	}
	return b, nil
}
