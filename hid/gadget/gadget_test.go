package gadget

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kernel keeps the rules of configfs over a temporary folder: attributes come
// with their folder and go with it, a linked function is fixed, what is in use
// stays. Its rules are those that were measured on kernels 6.1 and 6.12.
type kernel struct {
	t     *testing.T
	sys   System
	lacks []string      // attributes that this kernel has not
	fail  map[int]error // the n-th step, from 1, ends with this
	steps []Step        // all that were asked for
}

func newKernel(t *testing.T, udcs ...string) *kernel {
	k := &kernel{t: t, sys: System{Root: t.TempDir()}}
	k.sys.change = k.change
	k.dir(configFS)
	for _, u := range udcs {
		k.dir(path.Join(udcClass, u))
		k.file(path.Join(udcClass, u, "state"), "not attached\n")
	}
	return k
}

func (k *kernel) dir(p string) {
	k.t.Helper()
	if err := os.MkdirAll(k.sys.at(p), 0o755); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) file(p, text string) {
	k.t.Helper()
	for _, l := range k.lacks {
		if strings.HasSuffix(p, l) {
			return
		}
	}
	if err := os.WriteFile(k.sys.at(p), []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) text(p string) string {
	k.t.Helper()
	s, err := k.sys.read(p)
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

// parts splits a path into the gadget and what is below it.
func parts(p string) (base, rel string) {
	name, rel, _ := strings.Cut(strings.TrimPrefix(p, configFS+"/"), "/")
	return path.Join(configFS, name), rel
}

func (k *kernel) linked(base string) bool {
	links, _ := filepath.Glob(k.sys.at(path.Join(base, "configs/*/hid.*")))
	return len(links) > 0
}

func (k *kernel) change(s Step) error {
	k.steps = append(k.steps, s)
	if err := k.fail[len(k.steps)]; err != nil {
		return err
	}
	base, rel := parts(s.Path)
	full := k.sys.at(s.Path)
	switch s.Op {
	case Chgrp, Chmod:
		return k.sys.apply(s)
	case Mkdir:
		if err := os.Mkdir(full, 0o755); err != nil {
			return err
		}
		var attrs map[string]string
		switch {
		case rel == "":
			attrs = map[string]string{"idVendor": "0x0000\n", "idProduct": "0x0000\n", "bcdDevice": "0x0601\n", "bcdUSB": "0x0000\n", "max_speed": "super-speed-plus\n", "UDC": "\n"}
			for _, d := range []string{"strings", "configs", "functions"} {
				k.dir(path.Join(s.Path, d))
			}
		case strings.HasPrefix(rel, "strings/"):
			attrs = map[string]string{"manufacturer": "\n", "product": "\n", "serialnumber": "\n"}
		case strings.HasPrefix(rel, "configs/") && strings.Count(rel, "/") == 1:
			attrs = map[string]string{"MaxPower": "0\n", "bmAttributes": "0x80\n"}
			k.dir(path.Join(s.Path, "strings"))
		case strings.HasPrefix(rel, "configs/"):
			attrs = map[string]string{"configuration": "\n"}
		case strings.HasPrefix(rel, "functions/hid."):
			attrs = map[string]string{"protocol": "0\n", "subclass": "0\n", "report_length": "0\n", "report_desc": "", "no_out_endpoint": "0\n", "interval": "4\n", "dev": "236:0\n"}
		default:
			os.Remove(full)
			return syscall.EPERM
		}
		for a, v := range attrs {
			k.file(path.Join(s.Path, a), v)
		}
		return nil
	case Write:
		if strings.HasSuffix(rel, "/dev") {
			return syscall.EACCES
		}
		if _, err := os.Stat(full); err != nil {
			return err
		}
		if rel == "UDC" {
			return k.writeUDC(base, strings.TrimSpace(s.Data))
		}
		if strings.HasPrefix(rel, "functions/") && k.linked(base) {
			return syscall.EBUSY
		}
		v := s.Data
		if n, err := strconv.ParseUint(v, 0, 16); err == nil && !strings.HasPrefix(v, "0x") {
			v = strconv.FormatUint(n, 10)
		}
		if !strings.HasSuffix(rel, "report_desc") {
			v += "\n"
		}
		return os.WriteFile(full, []byte(v), 0o644)
	case Symlink:
		if _, err := os.Stat(k.sys.at(s.Data)); err != nil {
			return err
		}
		return os.Symlink(k.sys.at(s.Data), full)
	case Remove:
		if k.text(path.Join(base, "UDC")) != "" {
			return syscall.EBUSY // the kernel would unbind by itself; nobody should count on it
		}
		return os.Remove(full)
	case Rmdir:
		return k.rmdir(s.Path, base, rel)
	}
	return errors.New("unknown operation")
}

func (k *kernel) writeUDC(base, udc string) error {
	bound := k.text(path.Join(base, "UDC"))
	switch {
	case udc == "" && bound == "":
		return syscall.ENODEV
	case udc == "":
		k.file(path.Join(base, "UDC"), "\n")
		os.RemoveAll(k.sys.at("/dev/hidg0"))
		os.RemoveAll(k.sys.at("/sys/dev/char/236:0"))
		return nil // and the state file goes on saying configured
	case bound != "":
		return syscall.EBUSY
	case !k.linked(base):
		return syscall.EINVAL
	}
	if _, err := os.Stat(k.sys.at(path.Join(udcClass, udc))); err != nil {
		return syscall.ENODEV
	}
	k.file(path.Join(base, "UDC"), udc+"\n")
	k.file(path.Join(udcClass, udc, "state"), "configured\n")
	k.dir("/sys/dev/char/236:0")
	k.file("/sys/dev/char/236:0/uevent", "MAJOR=236\nMINOR=0\nDEVNAME=hidg0\n")
	k.dir("/dev")
	k.file("/dev/hidg0", "")
	return nil
}

func (k *kernel) rmdir(p, base, rel string) error {
	entries, err := os.ReadDir(k.sys.at(p))
	if err != nil {
		return err
	}
	if strings.HasPrefix(rel, "functions/") && k.linked(base) {
		return syscall.EBUSY
	}
	for _, e := range entries {
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			return syscall.ENOTEMPTY
		case e.IsDir():
			made, err := os.ReadDir(k.sys.at(path.Join(p, e.Name())))
			if err != nil || len(made) > 0 || rel != "" && e.Name() != "strings" {
				return syscall.ENOTEMPTY
			}
		}
	}
	return os.RemoveAll(k.sys.at(p))
}

func (k *kernel) empty() {
	k.t.Helper()
	left, err := os.ReadDir(k.sys.at(configFS))
	if err != nil || len(left) > 0 {
		k.t.Errorf("configfs is not empty: %v, %v", left, err)
	}
}

func lines(steps []Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, strings.ReplaceAll(s.String(), configFS+"/labctl", "@"))
	}
	return strings.Join(out, "\n") + "\n"
}

func TestPlanFromNothing(t *testing.T) {
	const want = `mkdir @
write @/idVendor "0x1d6b"
write @/idProduct "0x0104"
write @/bcdDevice "0x0100"
write @/bcdUSB "0x0200"
write @/max_speed "high-speed" (if the kernel has it)
mkdir @/strings/0x409
write @/strings/0x409/manufacturer "labctl"
write @/strings/0x409/product "Keyboard"
write @/strings/0x409/serialnumber "1"
mkdir @/configs/c.1
write @/configs/c.1/MaxPower "100"
write @/configs/c.1/bmAttributes "0x80"
mkdir @/configs/c.1/strings/0x409
write @/configs/c.1/strings/0x409/configuration "Keyboard"
mkdir @/functions/hid.usb0
write @/functions/hid.usb0/protocol "1"
write @/functions/hid.usb0/subclass "1"
write @/functions/hid.usb0/report_length "8"
write @/functions/hid.usb0/report_desc hex 05010906a101050719e029e715002501750195088102750895018101050819012905750195059102750395019101050719002` + `9ff150026ff00750895068100c0
write @/functions/hid.usb0/no_out_endpoint "1" (if the kernel has it)
symlink @/configs/c.1/hid.usb0 -> @/functions/hid.usb0
`
	if got := lines(Spec{}.Plan(Status{})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got := lines(Spec{Name: "other", VendorID: 0x1234, ProductID: 0xabcd, Version: 0x0203, Manufacturer: "M", Product: "P", Serial: "S",
		FullSpeed: true, Interval: 1, MaxPower: 250}.Plan(Status{}))
	for _, w := range []string{"/other/idVendor \"0x1234\"", "idProduct \"0xabcd\"", "bcdDevice \"0x0203\"", "manufacturer \"M\"", "product \"P\"",
		"serialnumber \"S\"", "max_speed \"full-speed\"", "interval \"1\" (if the kernel has it)", "MaxPower \"250\""} {
		if !strings.Contains(got, w) {
			t.Errorf("the plan lacks %s:\n%s", w, got)
		}
	}
}

func TestLife(t *testing.T) {
	for _, lacks := range [][]string{nil, {"no_out_endpoint", "interval", "max_speed"}} {
		k := newKernel(t, "fe980000.usb")
		k.lacks = lacks
		for range 3 {
			now, err := k.sys.Up(t.Context(), Spec{Interval: 4})
			if err != nil || !now.Present || now.UDC != "" || now.Node != "" {
				t.Fatalf("kernel without %v: %+v, %v", lacks, now, err)
			}
			n := len(k.steps)
			if _, err := k.sys.Up(t.Context(), Spec{Interval: 4}); err != nil || len(k.steps) != n {
				t.Errorf("the second Up did %d steps, %v:\n%s", len(k.steps)-n, err, lines(k.steps[n:]))
			}
			for range 2 {
				if udc, err := k.sys.Bind(t.Context(), "", ""); err != nil || udc != "fe980000.usb" {
					t.Fatalf("bound to %q, %v", udc, err)
				}
			}
			node, err := k.sys.WaitNode(t.Context(), "", time.Second)
			if err != nil || node != "/dev/hidg0" {
				t.Errorf("node %q, %v", node, err)
			}
			if now, err = k.sys.Inspect(""); err != nil || now.UDC != "fe980000.usb" || now.State != "configured" || now.Node != node {
				t.Errorf("bound: %+v, %v", now, err)
			}
			if now, err = k.sys.Up(t.Context(), Spec{Interval: 4}); err != nil || now.UDC != "" {
				t.Errorf("Up leaves it bound to %q, %v", now.UDC, err)
			}
			if _, err := k.sys.Bind(t.Context(), "", "fe980000.usb"); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := k.sys.Unbind(t.Context(), ""); err != nil {
					t.Error(err)
				}
			}
			if _, err := k.sys.Bind(t.Context(), "", ""); err != nil {
				t.Error(err)
			}
			for range 2 { // Down from the bound state, and again
				if err := k.sys.Down(t.Context(), ""); err != nil {
					t.Fatal(err)
				}
				k.empty()
			}
		}
	}
}

func TestTeardownOrder(t *testing.T) {
	k := newKernel(t, "u")
	if _, err := k.sys.Up(t.Context(), Spec{}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.sys.Bind(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	now, err := k.sys.Inspect("")
	if err != nil {
		t.Fatal(err)
	}
	const want = `write @/UDC ""
rm @/configs/c.1/hid.usb0
rmdir @/configs/c.1/strings/0x409
rmdir @/configs/c.1
rmdir @/functions/hid.usb0
rmdir @/strings/0x409
rmdir @
`
	if got := lines(Teardown(now)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A gadget of the same name that is another one is replaced, one with more in it
// as well.
func TestUpReplaces(t *testing.T) {
	for _, other := range []Spec{{Product: "Old"}, {FullSpeed: true}, {MaxPower: 500}, {VendorID: 0x1234}, {Version: 0x0200}} {
		k := newKernel(t, "u")
		if _, err := k.sys.Up(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if _, err := k.sys.Bind(t.Context(), "", ""); err != nil {
			t.Fatal(err)
		}
		now, err := k.sys.Up(t.Context(), Spec{})
		if err != nil || !(Spec{}).matches(now) {
			t.Errorf("after %+v: %v", other, err)
		}
	}
	k := newKernel(t, "u")
	if _, err := k.sys.Up(t.Context(), Spec{}); err != nil {
		t.Fatal(err)
	}
	base := configFS + "/labctl"
	more := []Step{
		{Op: Mkdir, Path: base + "/functions/hid.usb1"},
		{Op: Mkdir, Path: base + "/configs/c.2"},
		{Op: Mkdir, Path: base + "/configs/c.2/strings/0x407"},
		{Op: Mkdir, Path: base + "/strings/0x407"},
		{Op: Symlink, Path: base + "/configs/c.2/hid.usb1", Data: base + "/functions/hid.usb1"},
	}
	if err := k.sys.Do(t.Context(), more); err != nil {
		t.Fatal(err)
	}
	if now, err := k.sys.Up(t.Context(), Spec{}); err != nil || len(now.folders) != 4 {
		t.Errorf("%v, %v", now.folders, err)
	}
	if err := k.sys.Down(t.Context(), ""); err != nil {
		t.Error(err)
	}
	k.empty()
}

// Up from every state in which an earlier Up was killed.
func TestUpAfterAKill(t *testing.T) {
	steps := Spec{}.Plan(Status{})
	for n := range len(steps) + 1 {
		k := newKernel(t, "u")
		if err := k.sys.Do(t.Context(), steps[:n]); err != nil {
			t.Fatal(err)
		}
		if _, err := k.sys.Up(t.Context(), Spec{}); err != nil {
			t.Errorf("killed after %d steps: %v", n, err)
		}
		if err := k.sys.Down(t.Context(), ""); err != nil {
			t.Errorf("killed after %d steps: %v", n, err)
		}
		k.empty()

		k = newKernel(t, "u")
		if err := k.sys.Do(t.Context(), steps[:n]); err != nil {
			t.Fatal(err)
		}
		if err := k.sys.Down(t.Context(), ""); err != nil {
			t.Errorf("killed after %d steps: %v", n, err)
		}
		k.empty()
	}
}

// A step that the kernel refuses is told, and nothing of the gadget is left.
func TestUpCleansUp(t *testing.T) {
	steps := Spec{}.Plan(Status{})
	for n := range steps {
		k := newKernel(t, "u")
		k.fail = map[int]error{n + 1: syscall.EIO}
		now, err := k.sys.Up(t.Context(), Spec{})
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), steps[n].Path) || now.Present {
			t.Errorf("step %d: %+v, %v", n+1, now, err)
		}
		k.empty()
	}
	k := newKernel(t, "u")
	ctx, cancel := context.WithCancel(t.Context())
	inner := k.sys.change
	k.sys.change = func(s Step) error {
		if len(k.steps) == 10 {
			cancel()
		}
		return inner(s)
	}
	if _, err := k.sys.Up(ctx, Spec{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	k.empty()
}

func TestUpIsReadBack(t *testing.T) {
	k := newKernel(t, "u")
	inner := k.sys.change
	k.sys.change = func(s Step) error {
		if strings.HasSuffix(s.Path, "/subclass") {
			return nil // taken, and not done
		}
		return inner(s)
	}
	if _, err := k.sys.Up(t.Context(), Spec{}); err == nil {
		t.Error("a keyboard that is no boot keyboard passed")
	}
}

// A group is let in once, stays in through binding and unbinding, and goes with
// the gadget.
func TestGroup(t *testing.T) {
	k := newKernel(t, "u")
	k.dir("/etc")
	gid := 4711
	if os.Geteuid() != 0 {
		gid = os.Getegid() // who is not root can give a file to no other
	}
	k.file("/etc/group", "root:x:0:\nlabctl-not:x:7:\nlabctl:x:"+strconv.Itoa(gid)+":anna\nbad:x:many:\n")
	if got, err := k.sys.Group("labctl"); err != nil || got != gid {
		t.Fatalf("the group has number %d, %v", got, err)
	}
	if got, err := k.sys.Group("nobodies"); err != nil || got != 0 {
		t.Errorf("a group that is not there has number %d, %v", got, err)
	}
	if _, err := k.sys.Group("bad"); err == nil || !strings.Contains(err.Error(), `"many"`) {
		t.Errorf("a group without a number: %v", err)
	}
	if now, err := k.sys.Up(t.Context(), Spec{}); err != nil || now.Group != 0 {
		t.Fatalf("without a group: %+v, %v", now, err)
	}
	for i := range 2 { // the second time there is nothing to do
		n := len(k.steps)
		now, err := k.sys.Up(t.Context(), Spec{Group: gid})
		if err != nil || now.Group != gid {
			t.Fatalf("with the group: %+v, %v", now, err)
		}
		want := ""
		if i == 0 {
			want = "chgrp " + strconv.Itoa(gid) + " @/UDC\nchmod 0664 @/UDC\n"
		}
		if got := strings.TrimPrefix(lines(k.steps[n:]), "\n"); got != want {
			t.Errorf("up number %d did\n%s\nwant\n%s", i+1, got, want)
		}
	}
	if _, err := k.sys.Bind(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	if now, err := k.sys.Inspect(""); err != nil || now.Group != gid {
		t.Errorf("bound: %+v, %v", now, err)
	}
	if err := k.sys.Down(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	k.empty()
	// From nothing, and refused: then nothing stays.
	inner := k.sys.change
	k.sys.change = func(s Step) error {
		if s.Op == Chgrp {
			return syscall.EPERM
		}
		return inner(s)
	}
	if _, err := k.sys.Up(t.Context(), Spec{Group: gid}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("refused: %v", err)
	}
	k.empty()
}

func TestPorts(t *testing.T) {
	ctx := t.Context()
	bind := func(k *kernel) error { _, err := k.sys.Bind(ctx, "", ""); return err }
	var u *UDCError

	k := newKernel(t)
	if err := bind(k); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no gadget: %v", err)
	}
	if _, err := k.sys.Up(ctx, Spec{}); err != nil {
		t.Errorf("a gadget needs no port to be set up: %v", err)
	}
	if err := bind(k); !errors.As(err, &u) || len(u.Found) != 0 {
		t.Errorf("no port: %v", err)
	}
	k = newKernel(t, "a", "b")
	if _, err := k.sys.Up(ctx, Spec{}); err != nil {
		t.Fatal(err)
	}
	if err := bind(k); !errors.As(err, &u) || len(u.Found) != 2 {
		t.Errorf("two ports: %v", err)
	}
	if _, err := k.sys.Bind(ctx, "", "b"); err != nil {
		t.Error(err)
	}
	if udc, err := k.sys.Bind(ctx, "", "a"); err != nil || udc != "a" {
		t.Errorf("moved to %q, %v", udc, err)
	}
	if _, err := k.sys.Up(ctx, Spec{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.sys.Bind(ctx, "second", "a"); !errors.As(err, &u) || u.User != "labctl" {
		t.Errorf("a port in use: %v", err)
	}
	if err := k.sys.Down(ctx, "second"); err != nil {
		t.Error(err)
	}
	if now, err := k.sys.Inspect(""); err != nil || now.UDC != "a" {
		t.Errorf("taking down one gadget touched the other: %+v, %v", now, err)
	}
}

// The port can vanish between the look and the write; then there is nothing left
// to unbind.
func TestUnbindWithoutPort(t *testing.T) {
	k := newKernel(t, "u")
	if _, err := k.sys.Up(t.Context(), Spec{}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.sys.Bind(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	inner := k.sys.change
	k.sys.change = func(s Step) error {
		if strings.HasSuffix(s.Path, "/UDC") {
			if err := inner(s); err != nil {
				return err
			}
			return syscall.ENODEV
		}
		return inner(s)
	}
	if err := k.sys.Down(t.Context(), ""); err != nil {
		t.Error(err)
	}
	k.empty()
}

func TestNoConfigFS(t *testing.T) {
	y := System{Root: t.TempDir()}
	if _, err := y.Up(t.Context(), Spec{}); !errors.Is(err, ErrNoConfigFS) {
		t.Errorf("got %v", err)
	}
	if err := y.Down(t.Context(), ""); err != nil {
		t.Errorf("nothing to take down: %v", err)
	}
	for _, name := range []string{"a/b", "..", ".", "/"} {
		if _, err := newKernel(t).sys.Up(t.Context(), Spec{Name: name}); err == nil {
			t.Errorf("a gadget named %q", name)
		}
	}
}

// What is there already is not loaded or mounted again, and modprobe is not
// needed for it.
func TestPrepare(t *testing.T) {
	for _, tc := range []struct {
		have []string // paths; a name of a file that ends in mounts is a mounted configfs
		want string
	}{
		{nil, "modprobe configfs\nmount -t configfs none /sys/kernel/config\nmodprobe libcomposite\n"},
		{[]string{mountPoint}, "mount -t configfs none /sys/kernel/config\nmodprobe libcomposite\n"},
		{[]string{mountPoint, "/sys/module/libcomposite"}, "mount -t configfs none /sys/kernel/config\n"},
		{[]string{mountPoint, "mounts"}, "modprobe libcomposite\n"},
		{[]string{configFS}, ""},
	} {
		k := newKernel(t, "u")
		if err := os.RemoveAll(k.sys.at(mountPoint)); err != nil {
			t.Fatal(err)
		}
		k.dir("/proc/self")
		k.file("/proc/self/mounts", "sysfs /sys sysfs rw 0 0\n")
		for _, p := range tc.have {
			if p == "mounts" {
				k.file("/proc/self/mounts", "sysfs /sys sysfs rw 0 0\nnone /sys/kernel/config configfs rw 0 0\n")
				continue
			}
			k.dir(p)
		}
		steps, err := k.sys.Prepare()
		if got := lines(steps); err != nil || strings.TrimSpace(got) != strings.TrimSpace(tc.want) {
			t.Errorf("with %v: %v\n%s", tc.have, err, got)
		}
		// The kernel shows its folders when it was asked to.
		inner := k.sys.change
		k.sys.change = func(s Step) error {
			switch s.Op {
			case Mount, Load:
				k.steps = append(k.steps, s)
				k.dir(mountPoint)
				if s.Data != "configfs" {
					k.dir(configFS)
				}
				return nil
			}
			return inner(s)
		}
		if now, err := k.sys.Up(t.Context(), Spec{}); err != nil || !now.Present {
			t.Errorf("with %v: %+v, %v", tc.have, now, err)
		}
	}
}

// A kernel that has libcomposite built in shows its folder once configfs is
// mounted, on a system that has no modprobe too.
func TestBuiltIn(t *testing.T) {
	k := newKernel(t, "u")
	if err := os.RemoveAll(k.sys.at(configFS)); err != nil {
		t.Fatal(err)
	}
	k.dir("/proc/self")
	k.file("/proc/self/mounts", "")
	inner := k.sys.change
	builtIn := true
	k.sys.change = func(s Step) error {
		switch s.Op {
		case Mount:
			if builtIn {
				k.dir(configFS)
			}
			return nil
		case Load:
			return errors.New("this system has no program modprobe")
		}
		return inner(s)
	}
	if now, err := k.sys.Up(t.Context(), Spec{}); err != nil || !now.Present {
		t.Errorf("%+v, %v", now, err)
	}
	builtIn = false
	if err := os.RemoveAll(k.sys.at(configFS)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.sys.Up(t.Context(), Spec{}); !errors.Is(err, ErrNoConfigFS) || !strings.Contains(err.Error(), "no program modprobe") {
		t.Errorf("got %v", err)
	}
}

func TestWaitNodeGivesUp(t *testing.T) {
	k := newKernel(t, "u")
	if _, err := k.sys.Up(t.Context(), Spec{}); err != nil {
		t.Fatal(err)
	}
	if node, err := k.sys.WaitNode(t.Context(), "", 10*time.Millisecond); err == nil {
		t.Errorf("an unbound gadget has the node %s", node)
	}
}

// The file calls themselves, on a plain folder.
func TestApply(t *testing.T) {
	y := System{Root: t.TempDir()}
	if err := os.WriteFile(y.at("attr"), []byte("something long"), 0o644); err != nil {
		t.Fatal(err)
	}
	steps := []Step{
		{Op: Mkdir, Path: "/dir"},
		{Op: Write, Path: "/attr", Data: "1"},
		{Op: Write, Path: "/missing", Data: "1", Optional: true},
		{Op: Symlink, Path: "/link", Data: "/dir"},
	}
	if err := y.Do(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(y.at("attr")); err != nil || string(b) != "1" {
		t.Errorf("wrote %q, %v", b, err)
	}
	if _, err := os.Stat(y.at("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an attribute was made that the kernel has not: %v", err)
	}
	if to, err := os.Readlink(y.at("link")); err != nil || to != y.at("/dir") {
		t.Errorf("the link points to %s, %v", to, err)
	}
	if err := y.Do(t.Context(), []Step{{Op: Write, Path: "/missing", Data: "1"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := y.Do(t.Context(), []Step{{Op: Remove, Path: "/link"}, {Op: Rmdir, Path: "/dir"}}); err != nil {
		t.Error(err)
	}
	if err := y.Do(t.Context(), []Step{{Op: 99, Path: "/x"}}); err == nil {
		t.Error("an unknown operation passed")
	}
}

// The descriptor, read item by item: 8 bytes in, 1 byte out, and every usage that
// a layout needs within its bounds.
func TestReportDescriptor(t *testing.T) {
	var size, count, logicalMax, depth int
	bits := map[byte]int{}
	for d := reportDescriptor; len(d) > 0; {
		n := int(d[0] & 3)
		if n == 3 {
			n = 4
		}
		if len(d) < 1+n {
			t.Fatal("the last item is cut short")
		}
		v := 0
		for i := n; i > 0; i-- {
			v = v<<8 | int(d[i])
		}
		switch tag := d[0] &^ 3; tag {
		case 0x24: // logical maximum, signed
			if n == 1 && v > 0x7f {
				t.Errorf("logical maximum %#x in one byte is negative", v)
			}
			logicalMax = v
		case 0x74:
			size = v
		case 0x94:
			count = v
		case 0x80, 0x90: // input, output
			bits[tag] += size * count
		case 0xa0:
			depth++
		case 0xc0:
			depth--
		}
		d = d[1+n:]
	}
	if bits[0x80] != 64 || bits[0x90] != 8 || depth != 0 || logicalMax < 0x89 {
		t.Errorf("%d bits in, %d out, %d collections open, usages up to %#x", bits[0x80], bits[0x90], depth, logicalMax)
	}
}
