package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// keyboardLimit bounds the benchmark in the virtual machine, with the building of what runs in it. Under emulation it
// takes about a minute on two cores.
const keyboardLimit = 5 * time.Minute

// What the benchmark of hid/kerneltest calls its figures.
const (
	figureProven = "proven-reports/s"
	figureBare   = "bare-reports/s"
	figureRatio  = "proven/bare"
	figureAdded  = "pause-added-p99-ms"
	figureAdded9 = "pause-added-p90-ms"
	figureOurs   = "proven-pause-off-p99-ms"
	figureTheirs = "bare-pause-off-p99-ms"
)

// keyboard runs the benchmark of hid/kerneltest: a stock kernel in QEMU, in which labctl's keyboard and a bare loop
// take turns. Where that cannot be done the report says so, and that it is the worse for it.
func (b *bench) keyboard(ctx context.Context) error {
	b.say("typing on a real kernel in QEMU")
	where, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/labctl/labctl/hid/kerneltest").Output()
	if err != nil {
		return fmt.Errorf("looking for the keyboard's benchmark: %w", err)
	}
	program := b.bin.path("kerneltest")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "github.com/labctl/labctl/hid/kerneltest").CombinedOutput(); err != nil {
		return fmt.Errorf("building the keyboard's benchmark: %w\n%s", err, out)
	}
	skipped := b.bin.path("kerneltest.skipped")
	ctx, cancel := context.WithTimeout(ctx, keyboardLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", "^BenchmarkKeyboard$", "-test.benchtime", "1x")
	cmd.Dir = string(bytes.TrimSpace(where))
	// It builds programs and keeps packages between runs, for which it needs the user's own folders.
	cmd.Env = append(os.Environ(), "LABCTL_SKIPPED="+skipped, "TMPDIR="+b.bin.dir)
	// A group of its own, so that no QEMU stays behind when it is stopped.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("typing on a real kernel: %w", context.Cause(ctx))
	}
	if why, readErr := os.ReadFile(skipped); readErr == nil && err == nil {
		b.rep.Keyboard = &keyboard{Skipped: strings.TrimSpace(string(why))}
		b.say("*** typing on a real kernel is SKIPPED: %s ***", b.rep.Keyboard.Skipped)
		return nil
	}
	if err != nil {
		return fmt.Errorf("typing on a real kernel, in %s: %w\n%s", filepath.Base(program), err, out)
	}
	b.rep.Keyboard, err = readFigures(string(out))
	return err
}

// readFigures takes the figures from the line that go test prints for a benchmark: pairs of value and unit.
func readFigures(out string) (*keyboard, error) {
	figures := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "BenchmarkKeyboard") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("reading the keyboard's figures: %q is no number", f[i])
			}
			figures[f[i+1]] = v
		}
	}
	k := &keyboard{}
	for name, into := range map[string]*float64{figureProven: &k.Proven, figureBare: &k.Bare, figureRatio: &k.Ratio,
		figureAdded: &k.AddedMs, figureAdded9: &k.AddedP90Ms, figureOurs: &k.JitterMs, figureTheirs: &k.BareJitterMs} {
		v, ok := figures[name]
		if !ok {
			return nil, fmt.Errorf("reading the keyboard's figures: there is no %s in:\n%s", name, out)
		}
		*into = v
	}
	return k, nil
}
