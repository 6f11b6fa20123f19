package gadget

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoConfigFS: the kernel offers no USB gadgets, because libcomposite is not
// loaded or configfs is not mounted.
var ErrNoConfigFS = errors.New("no gadgets in configfs: libcomposite is not loaded, or configfs is not mounted")

// UDCError says why no port could be chosen.
type UDCError struct {
	Found []string // the ports that can play device
	User  string   // the gadget that holds the only one, if that is the reason
}

func (e *UDCError) Error() string {
	switch {
	case e.User != "":
		return fmt.Sprintf("USB device port %s is in use by gadget %s", strings.Join(e.Found, ", "), e.User)
	case len(e.Found) == 0:
		return "no USB port of this machine is in device mode"
	}
	return fmt.Sprintf("several USB ports are in device mode: %s", strings.Join(e.Found, ", "))
}

// System is the machine whose gadgets are managed. The zero System is this one.
type System struct {
	// Root is put before every path.
	Root string
	// change does one step; tests put a kernel's rules here.
	change func(Step) error
}

func (y System) at(p string) string { return filepath.Join(y.Root, filepath.FromSlash(p)) }

// Status is what is there of a gadget.
type Status struct {
	Name    string
	Present bool
	UDC     string // the port it is bound to; the host sees it only then
	// State is what the kernel says of the port, such as "configured". It is a
	// hint: after the cable is pulled, or the gadget unbound, it can stay.
	State string
	// Node is the keyboard's device file, such as /dev/hidg0; empty where there is
	// none, as before the first bind.
	Node string
	// Group is the number of the group that may bind it as root may, 0 where there
	// is none.
	Group int

	folders, links []string          // below the gadget's folder, each after the one it is in
	attributes     map[string]string // those that a Spec sets, as far as the kernel has them
}

// Prepare returns the steps after which the kernel offers gadgets, none where it
// does already. A kernel that has libcomposite built in takes the step that loads
// it for done.
func (y System) Prepare() ([]Step, error) {
	fail := func(err error) ([]Step, error) { return nil, fmt.Errorf("looking for configfs: %w", err) }
	there := func(p string) (bool, error) {
		_, err := os.Stat(y.at(p))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	if ok, err := there(configFS); ok || err != nil {
		return nil, err
	}
	var steps []Step
	// The kernel makes the mount point when configfs is there.
	if ok, err := there(mountPoint); err != nil {
		return fail(err)
	} else if !ok {
		steps = append(steps, Step{Op: Load, Data: "configfs"})
	}
	mounts, err := y.read("/proc/self/mounts")
	if err != nil {
		return fail(err)
	}
	mounted := false
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		mounted = mounted || len(f) > 2 && f[1] == mountPoint && f[2] == "configfs"
	}
	if !mounted {
		steps = append(steps, Step{Op: Mount, Path: mountPoint})
	}
	if ok, err := there("/sys/module/libcomposite"); err != nil {
		return fail(err)
	} else if !ok {
		steps = append(steps, Step{Op: Load, Data: "libcomposite"})
	}
	return steps, nil
}

// Inspect reads what is there of the gadget of that name; "" is DefaultName.
func (y System) Inspect(name string) (Status, error) {
	name = or(name, DefaultName)
	now := Status{Name: name, attributes: map[string]string{}}
	fail := func(err error) (Status, error) { return now, fmt.Errorf("inspecting gadget %s: %w", name, err) }
	if name != path.Base(name) || name == "." || name == ".." {
		return fail(errors.New("a name is one folder, without slashes"))
	}
	if _, err := os.Stat(y.at(configFS)); errors.Is(err, fs.ErrNotExist) {
		return fail(ErrNoConfigFS)
	} else if err != nil {
		return fail(err)
	}
	base := path.Join(configFS, name)
	if _, err := os.Stat(y.at(base)); errors.Is(err, fs.ErrNotExist) {
		return now, nil
	} else if err != nil {
		return fail(err)
	}
	now.Present = true
	// The kernel makes these three folders itself; what is in them was made by
	// somebody, and goes the same way.
	for _, group := range []string{"strings", "functions", "configs"} {
		names, err := y.folders(path.Join(base, group))
		if err != nil {
			return fail(err)
		}
		for _, n := range names {
			now.folders = append(now.folders, group+"/"+n)
			if group != "configs" {
				continue
			}
			entries, err := os.ReadDir(y.at(path.Join(base, group, n)))
			if err != nil {
				return fail(err)
			}
			for _, e := range entries {
				if e.Type()&fs.ModeSymlink != 0 {
					now.links = append(now.links, path.Join(group, n, e.Name()))
				}
			}
			langs, err := y.folders(path.Join(base, group, n, "strings"))
			if err != nil {
				return fail(err)
			}
			for _, l := range langs {
				now.folders = append(now.folders, path.Join(group, n, "strings", l))
			}
		}
	}
	for _, a := range (Spec{Interval: 1}).attributes() {
		b, err := os.ReadFile(y.at(path.Join(base, a.path)))
		switch {
		case err == nil:
			now.attributes[a.path] = string(b)
		case !errors.Is(err, fs.ErrNotExist):
			return fail(err)
		}
	}
	udc, err := y.read(path.Join(base, "UDC"))
	if err != nil {
		return fail(err)
	}
	if info, err := os.Stat(y.at(path.Join(base, "UDC"))); err == nil && info.Mode().Perm()&0o020 != 0 {
		now.Group = groupOf(info)
	}
	if now.UDC = udc; udc != "" {
		if now.State, err = y.read(path.Join(udcClass, udc, "state")); err != nil {
			return fail(err)
		}
	}
	if now.Node, err = y.node(base); err != nil {
		return fail(err)
	}
	return now, nil
}

// read returns the text of a file without blanks around it, "" if there is none.
func (y System) read(p string) (string, error) {
	b, err := os.ReadFile(y.at(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

func (y System) folders(p string) ([]string, error) {
	entries, err := os.ReadDir(y.at(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// node finds the device file by the numbers that the function has. The first
// free name is not always hidg0.
func (y System) node(base string) (string, error) {
	numbers, err := y.read(path.Join(base, function, "dev"))
	if err != nil || numbers == "" {
		return "", err
	}
	uevent, err := y.read(path.Join("/sys/dev/char", numbers, "uevent"))
	for line := range strings.Lines(uevent) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return path.Join("/dev", name), nil
		}
	}
	return "", err
}

// Group returns the number of a group of this machine, 0 where it has none of
// that name. Only /etc/group is read, where the groups of packages are.
func (y System) Group(name string) (int, error) {
	text, err := y.read("/etc/group")
	if err != nil {
		return 0, fmt.Errorf("looking for group %s: %w", name, err)
	}
	for line := range strings.Lines(text) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[0] == name {
			gid, err := strconv.Atoi(f[2])
			if err != nil {
				return 0, fmt.Errorf("looking for group %s: /etc/group gives it the number %q", name, f[2])
			}
			return gid, nil
		}
	}
	return 0, nil
}

// UDCs returns the ports of this machine that are in device mode.
func (y System) UDCs() ([]string, error) {
	entries, err := os.ReadDir(y.at(udcClass))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing USB device ports: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Up makes the keyboard and leaves it unbound, so that the host does not see it
// yet; first it loads libcomposite and mounts configfs where that is needed, which
// both stay. Where the keyboard is there already it only unbinds it. On an error nothing of the
// gadget is left, as far as the kernel lets it go.
func (y System) Up(ctx context.Context, s Spec) (Status, error) {
	fail := func(now Status, err error) (Status, error) {
		return now, fmt.Errorf("setting up gadget %s: %w", s.name(), err)
	}
	before, err := y.Prepare()
	if err == nil {
		err = y.Do(ctx, before)
	}
	if err != nil {
		// Where libcomposite is built in, mounting was enough, modprobe or not.
		if _, statErr := os.Stat(y.at(configFS)); statErr != nil {
			return fail(Status{Name: s.name()}, fmt.Errorf("%w: %w", ErrNoConfigFS, err))
		}
	}
	now, err := y.Inspect(s.name())
	if err != nil {
		return fail(now, err)
	}
	if err := y.Do(ctx, s.Plan(now)); err != nil {
		if downErr := y.Down(context.WithoutCancel(ctx), s.name()); downErr != nil {
			err = errors.Join(err, downErr)
		}
		return fail(Status{Name: s.name()}, err)
	}
	now, err = y.Inspect(s.name())
	if err == nil && (!s.matches(now) || now.UDC != "" || len(s.grant(now)) > 0) {
		err = errors.New("the kernel took every step, and yet shows something else")
	}
	if err != nil {
		return fail(now, err)
	}
	return now, nil
}

// Down removes the gadget of that name and all that is in it. Where there is
// none, or no gadgets at all, there is nothing to do.
func (y System) Down(ctx context.Context, name string) error {
	now, err := y.Inspect(name)
	if errors.Is(err, ErrNoConfigFS) {
		return nil
	}
	if err == nil {
		err = y.Do(ctx, Teardown(now))
	}
	if err == nil {
		now, err = y.Inspect(name)
	}
	if err == nil && now.Present {
		err = errors.New("the kernel took every step, and yet it is still there")
	}
	if err != nil {
		return fmt.Errorf("taking down gadget %s: %w", or(name, DefaultName), err)
	}
	return nil
}

// Bind shows the gadget to the host on a port; "" is the only port there is. It
// returns the port. Enumeration by the host takes some tenths of a second more.
func (y System) Bind(ctx context.Context, name, udc string) (string, error) {
	name = or(name, DefaultName)
	fail := func(err error) (string, error) { return "", fmt.Errorf("binding gadget %s: %w", name, err) }
	now, err := y.Inspect(name)
	if err != nil {
		return fail(err)
	}
	if !now.Present {
		return fail(fmt.Errorf("it is not set up: %w", fs.ErrNotExist))
	}
	if udc == "" {
		found, err := y.UDCs()
		if err != nil {
			return fail(err)
		}
		if len(found) != 1 {
			return fail(&UDCError{Found: found})
		}
		udc = found[0]
	}
	if now.UDC == udc {
		return udc, nil
	}
	user, err := y.User(udc)
	if err != nil {
		return fail(err)
	}
	if user != "" {
		return fail(&UDCError{Found: []string{udc}, User: user})
	}
	steps := append(unbindSteps(name, now), Step{Op: Write, Path: path.Join(configFS, name, "UDC"), Data: udc + "\n"})
	if err := y.Do(ctx, steps); err != nil {
		return fail(err)
	}
	return udc, nil
}

// User returns the gadget that is bound to a port, "" if none is.
func (y System) User(udc string) (string, error) {
	names, err := y.folders(configFS)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		bound, err := y.read(path.Join(configFS, n, "UDC"))
		if err != nil {
			return "", err
		}
		if bound == udc {
			return n, nil
		}
	}
	return "", nil
}

// Unbind hides the gadget from the host. To the host the keyboard is unplugged: it
// releases the keys, and a report that it had not fetched is gone.
func (y System) Unbind(ctx context.Context, name string) error {
	now, err := y.Inspect(name)
	if err == nil {
		err = y.Do(ctx, unbindSteps(now.Name, now))
	}
	if err != nil {
		return fmt.Errorf("unbinding gadget %s: %w", or(name, DefaultName), err)
	}
	return nil
}

// WaitNode returns the keyboard's device file once it is there, some
// milliseconds after Bind.
func (y System) WaitNode(ctx context.Context, name string, limit time.Duration) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("waiting for the device file of gadget %s: %w", or(name, DefaultName), err)
	}
	for deadline := time.Now().Add(limit); ; {
		now, err := y.Inspect(name)
		if err != nil {
			return fail(err)
		}
		if now.Node != "" {
			if _, err := os.Stat(y.at(now.Node)); err == nil {
				return now.Node, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return fail(err)
			}
		}
		if time.Until(deadline) <= 0 {
			return fail(fmt.Errorf("none after %s", limit))
		}
		select {
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Do carries steps out, up to the first that fails.
func (y System) Do(ctx context.Context, steps []Step) error {
	change := y.change
	if change == nil {
		change = y.apply
	}
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("before %s: %w", s, err)
		}
		err := change(s)
		if s.Optional && errors.Is(err, fs.ErrNotExist) || s.gone && errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// apply does one step with plain file calls.
func (y System) apply(s Step) error {
	switch p := y.at(s.Path); s.Op {
	case Load:
		if y.Root != "" {
			return errors.New("this is not the running system's root")
		}
		return modprobe(s.Data)
	case Mount:
		return mountConfigFS(p)
	case Mkdir:
		return os.Mkdir(p, 0o755)
	case Symlink:
		return os.Symlink(y.at(s.Data), p) // the kernel looks the target up when it makes the link, so it is absolute
	case Remove, Rmdir:
		return os.Remove(p)
	case Chgrp:
		gid, err := strconv.Atoi(s.Data)
		if err != nil {
			return err
		}
		return os.Chown(p, -1, gid)
	case Chmod:
		mode, err := strconv.ParseUint(s.Data, 8, 32)
		if err != nil {
			return err
		}
		return os.Chmod(p, fs.FileMode(mode))
	case Write:
		// No os.WriteFile: an attribute that the kernel has not is not to be made.
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(s.Data) // one write: the kernel takes each as a value
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("no such operation: %s", s.Op)
}

// modprobe loads a kernel module. The program is looked for where it is on systems
// that keep it out of a user's PATH, too.
func modprobe(name string) error {
	program, err := exec.LookPath("modprobe")
	for _, dir := range []string{"/sbin", "/usr/sbin", "/bin", "/usr/bin"} {
		if err == nil {
			break
		}
		program, err = exec.LookPath(path.Join(dir, "modprobe"))
	}
	if err != nil {
		return fmt.Errorf("this system has no program modprobe: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), modprobeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, name)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n"); err != nil && first != "" {
		return fmt.Errorf("%s (%w)", first, err)
	}
	return err
}

// modprobeLimit is far beyond the half second that loading takes on a slow board.
const modprobeLimit = 20 * time.Second
