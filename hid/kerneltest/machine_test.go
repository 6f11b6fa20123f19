package kerneltest

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// An archive collects the files of an initramfs in the "new ASCII" format of
// cpio, the one that Linux unpacks (Documentation/driver-api/early-userspace/
// buffer-format.rst).
type archive struct {
	buf  bytes.Buffer
	made map[string]bool
	ino  int
}

const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
	typeLink = 0o120000
)

func (a *archive) entry(name string, mode, major, minor int, data []byte) {
	a.ino++
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

func (a *archive) dir(name string) {
	if a.made == nil {
		a.made = map[string]bool{".": true}
	}
	if a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.made[name] = true
	a.entry(name, typeDir|0o755, 0, 0, nil)
}

func (a *archive) file(name string, data []byte) {
	a.dir(path.Dir(name))
	a.entry(name, typeFile|0o755, 0, 0, data)
}

func (a *archive) link(name, target string) {
	a.dir(path.Dir(name))
	a.entry(name, typeLink|0o777, 0, 0, []byte(target))
}

func (a *archive) device(name string, major, minor int) {
	a.dir(path.Dir(name))
	a.entry(name, typeChar|0o600, major, minor, nil)
}

func (a *archive) close() []byte {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.buf.Bytes()
}

// modules adds kernel modules with all they need, and the list of dependencies
// that modprobe reads: a kernel package has none, it is made on installation.
func (a *archive) modules(kernelRoot, busybox string, names ...string) error {
	releases, err := filepath.Glob(filepath.Join(kernelRoot, "lib/modules/*"))
	if err != nil || len(releases) != 1 {
		return fmt.Errorf("looking for modules below %s: %d releases", kernelRoot, len(releases))
	}
	base := releases[0]
	files := map[string]string{} // by name, with underscores only
	plain := func(p string) string {
		name, _, _ := strings.Cut(filepath.Base(p), ".ko")
		return strings.ReplaceAll(name, "-", "_")
	}
	err = filepath.WalkDir(base, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(e.Name(), ".ko") {
			files[plain(p)] = p
		}
		return err
	})
	if err != nil {
		return err
	}
	builtin, err := os.ReadFile(filepath.Join(base, "modules.builtin"))
	if err != nil {
		return err
	}
	inKernel := map[string]bool{}
	for line := range strings.Lines(string(builtin)) {
		inKernel[plain(strings.TrimSpace(line))] = true
	}
	release := "lib/modules/" + filepath.Base(base)
	needs := map[string][]string{} // all, nearest first
	var deps, aliases strings.Builder
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if _, done := needs[name]; done || inKernel[name] {
			return nil
		}
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("this kernel has no module %s", name)
		}
		needs[name] = nil
		var data []byte
		var err error
		if strings.HasSuffix(file, ".xz") {
			data, err = exec.Command(busybox, "xzcat", file).Output()
		} else {
			data, err = os.ReadFile(file)
		}
		if err != nil {
			return fmt.Errorf("reading module %s: %w", name, err)
		}
		direct, names, err := moduleInfo(data)
		if err != nil {
			return fmt.Errorf("reading module %s: %w", name, err)
		}
		for _, n := range names {
			fmt.Fprintf(&aliases, "alias %s %s\n", n, name)
		}
		for _, d := range direct {
			if err := add(d); err != nil {
				return err
			}
			if d = strings.ReplaceAll(d, "-", "_"); !inKernel[d] {
				needs[name] = append(append(needs[name], d), needs[d]...)
			}
		}
		a.file(release+"/"+name+".ko", data)
		fmt.Fprintf(&deps, "%s.ko:", name)
		for _, d := range needs[name] {
			fmt.Fprintf(&deps, " %s.ko", d)
		}
		deps.WriteByte('\n')
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return err
		}
	}
	a.file(release+"/modules.dep", []byte(deps.String()))
	// The kernel asks for some modules by what they can do, such as usbfunc:hid.
	a.file(release+"/modules.alias", []byte(aliases.String()))
	a.file(release+"/modules.symbols", nil)
	return nil
}

// moduleInfo reads what a module says of itself.
func moduleInfo(module []byte) (depends, aliases []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, nil, errors.New("no .modinfo in it")
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		switch key, value, _ := strings.Cut(field, "="); {
		case key == "depends" && value != "":
			depends = strings.Split(value, ",")
		case key == "alias":
			aliases = append(aliases, value)
		}
	}
	return depends, aliases, nil
}

// qmp speaks QEMU's control protocol: one JSON object a line.
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

func dialQMP(ctx context.Context, socket string, ended chan error) (*qmp, error) {
	conn, err := dialWhenThere(ctx, socket, ended)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, in: json.NewDecoder(conn)}
	var greeting map[string]any
	if err := q.in.Decode(&greeting); err != nil {
		conn.Close()
		return nil, err
	}
	if err := q.do("qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) do(command string, arguments map[string]any) error {
	if err := q.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err := q.in.Decode(&answer); {
		case err != nil:
			return fmt.Errorf("%s: %w", command, err)
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		} // anything else is an event
	}
}

// readPPM reads the pictures that QEMU's screendump writes: binary PPM of 8 bits.
func readPPM(r io.Reader) (image.Image, error) {
	in := bufio.NewReader(r)
	var magic string
	var width, height, depth int
	if _, err := fmt.Fscan(in, &magic, &width, &height, &depth); err != nil {
		return nil, fmt.Errorf("reading the head of a picture: %w", err)
	}
	if magic != "P6" || depth != 255 || width <= 0 || height <= 0 || width > 4096 || height > 4096 {
		return nil, fmt.Errorf("a picture of kind %s, %d×%d, depth %d", magic, width, height, depth)
	}
	if _, err := in.ReadByte(); err != nil {
		return nil, err
	}
	rgb := make([]byte, 3*width*height)
	if _, err := io.ReadFull(in, rgb); err != nil {
		return nil, fmt.Errorf("reading a picture: %w", err)
	}
	// A text console has few colours, and a palette makes a small PNG.
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		picture.SetRGBA(i%width, i/width, color.RGBA{rgb[3*i], rgb[3*i+1], rgb[3*i+2], 255})
	}
	return picture, nil
}

// machine is a virtual computer while it runs.
type machine struct {
	// onLine gets each line of the guest's second serial port; what it returns
	// is sent back.
	onLine func(m *machine, line string) (reply string)

	vmlinuz string
	initrd  []byte
	args    []string // NAME=value, in the environment of the first process
	// first is how long the guest may take to say something, silence how long it
	// may say nothing after that, and limit how long it may run.
	first, silence, limit time.Duration

	dir     string
	qmp     *qmp
	console string // what the kernel said, after run
}

// errMute: the machine hangs before its first word. Seen once in some dozens of
// boots on a busy processor, and nothing of labctl runs by then.
var errMute = errors.New("the machine has said nothing since it was switched on")

// run boots the machine and returns when it has powered itself off.
func (m *machine) run(ctx context.Context) (err error) {
	// Sockets have short names only, so not below a test's own folder.
	if m.dir, err = os.MkdirTemp("", "labctl-vm-"); err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	initrd, console := filepath.Join(m.dir, "initrd"), filepath.Join(m.dir, "console")
	if err := os.WriteFile(initrd, m.initrd, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	var stderr bytes.Buffer
	// No KVM, even where there is a /dev/kvm: nested in another machine it was
	// seen to hang this kernel. One processor: two are no faster under emulation.
	// The TSC is the host's clock here, so it can be trusted; the check whether the
	// timer interrupts in time panics where the host is busy.
	q := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
		"-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512", "-display", "none", "-vga", "std",
		"-kernel", m.vmlinuz, "-initrd", initrd,
		"-append", strings.Join(append([]string{"console=ttyS0 quiet loglevel=4 panic=-1 oops=panic",
			"tsc=reliable clocksource=tsc no_timer_check mitigations=off consoleblank=0"}, m.args...), " "),
		"-serial", "file:"+console,
		"-chardev", "socket,id=results,server=on,wait=off,path="+filepath.Join(m.dir, "results"),
		"-serial", "chardev:results",
		"-qmp", "unix:"+filepath.Join(m.dir, "qmp")+",server=on,wait=off")
	q.Stderr, q.Stdout = &stderr, &stderr
	q.WaitDelay = 5 * time.Second
	if err := q.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- q.Wait() }()
	defer func() {
		if err != nil {
			cancel()
		}
		if waitErr := <-ended; waitErr != nil && err == nil { // no later than ctx
			err = fmt.Errorf("qemu: %w: %s", waitErr, stderr.String())
		}
		said, readErr := os.ReadFile(console)
		if readErr != nil && err == nil {
			err = readErr
		}
		m.console = string(said)
	}()
	results, err := dialWhenThere(ctx, filepath.Join(m.dir, "results"), ended)
	if err != nil {
		return fmt.Errorf("starting qemu: %w: %s", err, stderr.String())
	}
	defer results.Close()
	if m.qmp, err = dialQMP(ctx, filepath.Join(m.dir, "qmp"), ended); err != nil {
		return fmt.Errorf("starting qemu: %w", err)
	}
	defer m.qmp.conn.Close()
	in := bufio.NewReader(results)
	patience := m.first
	for {
		if err := results.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			patience = m.silence // a port that is set up can make an empty line
			if reply := m.onLine(m, line); reply != "" {
				if _, err := io.WriteString(results, reply); err != nil {
					return err
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return ctx.Err() // off
		case ctx.Err() != nil:
			return fmt.Errorf("the machine is not done after %s: %w", m.limit, ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded) && patience == m.first:
			return fmt.Errorf("%w for %s", errMute, m.first)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the machine says nothing for %s", m.silence)
		case err != nil:
			return err
		}
	}
}

func dialWhenThere(ctx context.Context, socket string, ended chan error) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case endErr := <-ended:
			ended <- endErr
			return nil, errors.Join(err, endErr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// screen returns a picture of the machine's screen.
func (m *machine) screen() (image.Image, error) {
	file := filepath.Join(m.dir, "screen.ppm")
	if err := m.qmp.do("screendump", map[string]any{"filename": file}); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readPPM(f)
}
