package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("LABSIM_TEST_MAIN") != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		args   string
		code   int
		stdout string // a part of it
		stderr string
	}{
		{"--help", 0, "usage: labsim", ""},
		{"--list-scenes", 0, "two-uplinks", ""},
		{"--list-faults", 0, "wire-vlan", ""},
		{"--nonsense", 2, "", "-nonsense"},
		{"extra", 2, "", `unexpected argument "extra"`},
		{"--vms many", 2, "", "many"},
		{"--fault {}", 2, "", `there is no fault ""`},
		{"--scene attic", 1, "", `there is no scene "attic"`},
		{"--listen 0.0.0.0:0", 1, "", "not a loopback address"},
		{"--listen 127.0.0.1", 1, "", "listen address"},
		{`--fault {"fault":"vm-edit","vm":"nobody"}`, 1, "", `there is no VM "nobody"`},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(strings.Fields(tc.args), &stdout, &stderr); code != tc.code {
				t.Errorf("exit code %d, want %d: %s", code, tc.code, stderr.String())
			}
			if !strings.Contains(stdout.String(), tc.stdout) || tc.stdout == "" && stdout.Len() > 0 {
				t.Errorf("stdout: %q", stdout.String())
			}
			if !strings.Contains(stderr.String(), tc.stderr) || tc.stderr != "" && strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("stderr: %q", stderr.String())
			}
		})
	}
}

func TestServesUntilInterrupted(t *testing.T) {
	config := filepath.Join(t.TempDir(), "labctl.yaml")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--write-config", config, "--fault", `{"fault": "delay", "ms": 1}`)
	cmd.Env = append(os.Environ(), "LABSIM_TEST_MAIN=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready\n" {
		t.Fatalf("stdout starts with %q, %v: %s", line, err, stderr.String())
	}
	text, err := os.ReadFile(config)
	if err != nil || !strings.Contains(string(text), "name: nuc01") {
		t.Errorf("the config when ready: %q, %v", text, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		rest, _ := io.ReadAll(out)
		if len(rest) > 0 {
			t.Errorf("stdout goes on with %q", rest)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("it does not end")
	}
	for _, want := range []string{"control  http://127.0.0.1:", "LABCTL_CONFIG=" + config, "thumbprint"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q: %s", want, stderr.String())
		}
	}
}
