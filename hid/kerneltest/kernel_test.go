package kerneltest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labctl/labctl/internal/skipped"
)

var (
	update  = flag.Bool("update", false, "keep the screenshot as docs/dcui-tty1.png")
	guestIt = flag.String("guest", "", "regular expression: run only these tests inside the machine")
)

func TestMain(m *testing.M) {
	os.Exit(m.Run())
}

// result is one test of the guest.
type result struct {
	name, outcome string
	output        strings.Builder
}

// relay turns what go test -v prints inside the machine back into results.
type relay struct {
	mu       sync.Mutex
	all      []*result
	figures  map[string]float64
	done     bool
	other    strings.Builder
	pictures map[string]error
}

var outcomeLine = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+)`)

func (r *relay) line(l string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, ok := strings.CutPrefix(l, "=== RUN   "); ok {
		if !strings.Contains(name, "/") {
			r.all = append(r.all, &result{name: name})
			return
		}
	}
	if m := outcomeLine.FindStringSubmatch(l); m != nil {
		for _, t := range r.all {
			if t.name == m[2] {
				t.outcome = m[1]
				fmt.Fprintln(&t.output, l)
				return
			}
		}
	}
	out := &r.other
	if len(r.all) > 0 {
		out = &r.all[len(r.all)-1].output
	}
	fmt.Fprintln(out, l)
}

// Lines by which the guest asks for something, or tells a number.
const (
	figurePrefix = "@@figure "
	screenPrefix = "@@screen "
	exitPrefix   = "@@exit "
	aliveLine    = "@@alive" // its first process, every 5 s
)

func moduleRoot(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// build builds a static program for Linux.
func build(t testing.TB, arch, out string, args ...string) {
	t.Helper()
	goos, goarm := "linux", ""
	if arch == "arm" {
		goarm = "6" // the first Raspberry Pi, and the Zero
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args[:1:1], append([]string{"-trimpath", "-buildvcs=false", "-o", out}, args[1:]...)...)...)
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOARM="+goarm, "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// image builds what the machine boots from.
func newMachine(t testing.TB) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine, which takes minutes")
	}
	skipped.Without(t, "qemu-system-x86_64", "qemu-system-x86")
	packages := fetch(t, kernel, "busybox-static", "kbd", "console-data")
	root := moduleRoot(t)
	watchSources(t, root)
	dir := t.TempDir()
	build(t, "amd64", filepath.Join(dir, "labctl"), "build", "./cmd/labctl")
	build(t, "amd64", filepath.Join(dir, "guest"), "test", "-c", "./hid/kerneltest/guest")

	busybox := filepath.Join(packages["busybox-static"], "bin/busybox")
	var a archive
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "root"} {
		a.dir(d)
	}
	a.device("dev/console", 5, 1)
	a.file("bin/busybox", read(t, busybox))
	for _, applet := range []string{"sh", "modprobe", "cat", "ls", "sleep", "mount"} {
		a.link("bin/"+applet, "busybox")
	}
	a.link("sbin", "bin")
	a.file("init", read(t, filepath.Join(dir, "guest")))
	a.file("bin/labctl", read(t, filepath.Join(dir, "labctl")))
	a.file("etc/labctl-guest", nil)
	for name, data := range keymaps(t, packages["kbd"], packages["console-data"]) {
		a.file("etc/keymaps/"+name, data)
	}
	err := a.modules(packages[kernel], busybox, "dummy_hcd", "libcomposite", "usb_f_hid", "usbhid", "hid_generic", "evdev")
	if err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(packages[kernel], "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		t.Fatalf("%d kernels in %s", len(images), packages[kernel])
	}
	return &machine{vmlinuz: images[0], initrd: a.close(), first: 90 * time.Second, silence: 90 * time.Second, limit: 12 * time.Minute}
}

// boot runs those tests of the guest that match the regular expression, and gives
// what came of them.
func boot(t testing.TB, image *machine, tests string, args ...string) *relay {
	t.Helper()
	r := &relay{figures: map[string]float64{}, pictures: map[string]error{}}
	m := *image
	m.args = append([]string{"LABCTL_TESTS=" + tests}, args...)
	start := time.Now()
	m.onLine = func(m *machine, l string) string {
		if *verbose {
			t.Logf("%6.1f s  %s", time.Since(start).Seconds(), l)
		}
		if l == aliveLine {
			return ""
		}
		if what, ok := strings.CutPrefix(l, figurePrefix); ok {
			var f struct {
				Name  string
				Value float64
			}
			if err := json.Unmarshal([]byte(what), &f); err != nil {
				t.Errorf("figure %q: %v", what, err)
			}
			r.figures[f.Name] = f.Value
			return ""
		}
		if name, ok := strings.CutPrefix(l, screenPrefix); ok {
			r.pictures[name] = keepPicture(m, filepath.Join(moduleRoot(t), "docs", name+".png"))
			return "ok\n"
		}
		if code, ok := strings.CutPrefix(l, exitPrefix); ok {
			r.done = code == "0" || code == "1"
			if !r.done {
				r.line("the tests ended with exit " + code)
			}
			return ""
		}
		r.line(l)
		return ""
	}
	err := m.run(t.Context())
	for range 2 {
		if !errors.Is(err, errMute) {
			break
		}
		t.Logf("%v: switching it on again", err)
		err = m.run(t.Context())
	}
	t.Logf("the machine ran for %.0f s", time.Since(start).Seconds())
	if err == nil && !r.done {
		err = fmt.Errorf("it went off before its tests were done")
	}
	if err != nil {
		last := r.other.String()
		if n := len(r.all); n > 0 {
			last = r.all[n-1].output.String()
		}
		t.Fatalf("%v\nthe last that its tests said:\n%s\nthe last on its console:\n%s", err, tail(last, 60), tail(m.console, 40))
	}
	return r
}

var verbose = flag.Bool("serial", false, "log every line that the machine sends, when it comes")

// keepPicture looks at the machine's screen, and writes it to a file with -update.
func keepPicture(m *machine, name string) error {
	picture, err := m.screen()
	if err != nil {
		return err
	}
	if !*update {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return png.Encode(f, picture)
}

// TestKernel runs the tests of package guest on a real kernel, and each is a
// subtest here. The one that mostly waits is spread over two more machines.
func TestKernel(t *testing.T) {
	image := newMachine(t)
	if *guestIt != "" {
		show(t, boot(t, image, *guestIt))
		return
	}
	for _, share := range []struct{ name, tests, kills string }{
		{"all", "-", "0"},
		{"killed", "^TestKilled$", "50"},
		{"killed", "^TestKilled$", "50"},
	} {
		t.Run(share.name, func(t *testing.T) {
			t.Parallel()
			show(t, boot(t, image, share.tests, "LABCTL_KILLS="+share.kills))
		})
	}
}

// show makes subtests of what came back.
func show(t *testing.T, r *relay) {
	t.Helper()
	if len(r.all) == 0 {
		t.Fatalf("no test ran:\n%s", r.other.String())
	}
	for _, g := range r.all {
		t.Run(g.name, func(t *testing.T) {
			switch g.outcome {
			case "PASS":
				t.Log(g.output.String())
			case "SKIP":
				t.Skip(g.output.String())
			default:
				t.Error(g.output.String())
			}
		})
	}
	for name, err := range r.pictures {
		if err != nil {
			t.Errorf("picture %s: %v", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.figures)) {
		t.Logf("%-28s %10.3f", name, r.figures[name])
	}
}

// BenchmarkKeyboard reports how fast and how evenly labctl types on a real kernel
// (proven-), beside a loop that only writes and polls (bare-). Under emulation on
// a busy machine both stall at times, so the difference is what counts.
func BenchmarkKeyboard(b *testing.B) {
	image := newMachine(b)
	for b.Loop() {
		r := boot(b, image, "^(TestFigures|TestPauses)$")
		for _, g := range r.all {
			if g.outcome != "PASS" {
				b.Error(g.output.String())
			}
		}
		for name, value := range r.figures {
			b.ReportMetric(value, name)
		}
	}
	b.ReportMetric(0, "ns/op") // booting is not what is measured
}
