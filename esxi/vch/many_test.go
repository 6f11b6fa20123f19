package vch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Ten side by side: one upload, the wall time of a few, and nothing left.
func TestTen(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			before := l.state().things()
			var jobs []Job
			for i := range 10 {
				jobs = append(jobs, l.job(path.via, fmt.Sprintf("t-%d", i+1)))
			}
			n, err := l.session(path.via, func(c *esxi.Client) error {
				out, err := Up(t.Context(), c, jobs, Options{})
				for _, o := range out {
					if o.Err != nil {
						t.Error(o.Err)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			bundle := l.bundle.Appliance.Size + l.bundle.Bootstrap.Size
			if got := l.sent(); float64(got) > 1.2*float64(bundle) || got < bundle {
				t.Errorf("%d bytes were sent for a bundle of %d", got, bundle)
			}
			t.Logf("%d requests", n)
			for _, j := range jobs {
				j.Journal.Done()
			}
			var targets []Target
			for _, j := range jobs {
				targets = append(targets, l.target(path.via, j.Spec.Name))
			}
			n, err = l.session(path.via, func(c *esxi.Client) error {
				if list, err := List(t.Context(), c); err != nil || len(list) != 10 {
					t.Errorf("list: %+v %v", list, err)
				}
				out, err := Down(t.Context(), c, targets, DownOptions{})
				for _, r := range out {
					if len(r.Left) > 0 {
						t.Errorf("%+v", r)
					}
				}
				return err
			})
			t.Logf("%d requests", n)
			if err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(before, l.state().things()); d != "" {
				t.Errorf("the lab is not as it was:\n%s", d)
			}
		})
	}
}

// A second run takes its images from the VCH that is there.
func TestCopiesFromAnother(t *testing.T) {
	l := startLab(t, "standalone")
	if _, _, err := l.up("esxi", l.job("esxi", "t1"), Options{}); err != nil {
		t.Fatal(err)
	}
	sent := l.sent()
	_, n, err := l.up("esxi", l.job("esxi", "t2"), Options{})
	if err != nil || n > budgetUp {
		t.Errorf("%d requests, %v", n, err)
	}
	if more := l.sent() - sent; more > l.bundle.Bootstrap.Size {
		t.Errorf("%d bytes were sent though the images are there", more)
	}
	// Same names and another size: that is no image of this bundle.
	l.bundle = fakeBundle(t, "v1.5.8-0-2c978fe", 1<<19)
	sent = l.sent()
	if _, _, err := l.up("esxi", l.job("esxi", "t3"), Options{}); err != nil {
		t.Error(err)
	}
	if more := l.sent() - sent; more < l.bundle.Appliance.Size {
		t.Errorf("%d bytes were sent for another bundle", more)
	}
}

// What keeps an appliance from booting ends the wait at once, in its own words,
// and nothing is left.
func TestBootFailures(t *testing.T) {
	l := startLab(t, "standalone")
	before := l.state().things()
	for name, tc := range map[string]struct {
		fault, want string
		address     time.Duration
		ready       time.Duration
	}{
		"component":  {`{"fault": "component-fails", "component": "port-layer"}`, "port-layer did not start: ", time.Minute, time.Minute},
		"power":      {`{"fault": "boot-power-off"}`, "powered itself off", time.Minute, time.Minute},
		"no address": {`{"fault": "no-address"}`, "no address 1s after power-on: it asks for one by DHCP on VM Network (public: no address", time.Second, time.Minute},
		"slow":       {`{"fault": "no-address"}`, "500ms after power-on", time.Second, 500 * time.Millisecond},
		"upload":     {`{"fault": "upload-broken", "bytes": 300000}`, "upload [datastore1] t1/", time.Minute, time.Minute},
	} {
		l.reset()
		l.arm(tc.fault)
		j := l.job("esxi", "t1")
		start := time.Now()
		_, _, err := l.up("esxi", j, Options{Ready: tc.ready, Address: tc.address})
		l.disarm()
		var up *UpError
		if !errors.As(err, &up) || !strings.Contains(err.Error(), tc.want) || len(up.Left) > 0 {
			t.Errorf("%s: got %v", name, err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		if d := cmp.Diff(before, l.state().things()); d != "" {
			t.Errorf("%s: the lab is not as it was:\n%s", name, d)
		}
		// And the next one comes up.
		if _, _, err := l.up("esxi", l.job("esxi", "t1"), Options{}); err != nil {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}

// An appliance that is off again before its machine is looked at was on all
// the same.
func TestOffAtOnce(t *testing.T) {
	l := startLab(t, "standalone")
	l.arm(`{"fault": "boot-power-off"}`)
	l.arm(`{"fault": "hold", "call": 1, "method": "CreateFilter", "when": "before"}`)
	j := l.job("esxi", "t1")
	ended := make(chan error, 1)
	go func() {
		_, _, err := l.up("esxi", j, Options{Address: 30 * time.Second, Ready: 30 * time.Second})
		ended <- err
	}()
	off := func(s labState) bool {
		return s.Faults[0].Fired > 0 && strings.Contains(s.things(), "{t1 off}")
	}
	for !off(l.state()) {
		select {
		case err := <-ended:
			t.Fatalf("it ended early: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	l.call("POST", "/release", "")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the appliance powered itself off") {
		t.Errorf("got %v", err)
	}
}

// What is taken back is what this run made: volumes that an earlier VCH of the
// name left on purpose are not.
func TestUndoLeavesVolumes(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			j := l.job(path.via, "t1")
			j.Spec.Volumes = []Volume{{Label: "default", Datastore: "datastore1", Path: "vols/t1"}}
			if _, _, err := l.up(path.via, j, Options{}); err != nil {
				t.Fatal(err)
			}
			if r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{}); err != nil || len(r.Left) > 0 {
				t.Fatalf("%+v %v", r, err)
			}
			kept := l.state().things()
			if !strings.Contains(kept, "vols/t1/") {
				t.Fatalf("down did not keep the volumes:\n%s", kept)
			}
			for _, volumes := range [][]Volume{nil, j.Spec.Volumes} {
				l.arm(`{"fault": "component-fails", "component": "vicadmin"}`)
				again := l.job(path.via, "t1")
				again.Spec.Volumes = volumes
				_, _, err := l.up(path.via, again, Options{})
				l.disarm()
				var up *UpError
				if !errors.As(err, &up) || len(up.Left) > 0 {
					t.Errorf("got %v", err)
				}
				if d := cmp.Diff(kept, l.state().things()); d != "" {
					t.Errorf("the lab is not as it was:\n%s", d)
				}
			}
			// What was kept is still known, for when somebody wants it gone.
			r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{Volumes: true})
			if err != nil || len(r.Left) > 0 || strings.Contains(string(l.state().Files), "vols") {
				t.Errorf("%+v %v\n%s", r, err, l.state().Files)
			}
		})
	}
}

// An interrupt waits for the change that is under way: one that is given up
// would be made after the look that decides what is to be taken back.
func TestInterruptDrains(t *testing.T) {
	l := startLab(t, "standalone")
	before := l.state().things()
	l.arm(`{"fault": "op-delay", "ms": 700}`)
	ctx, cancel := context.WithCancelCause(t.Context())
	j := l.job("esxi", "t1")
	why := errors.New("interrupted by the test")
	_, err := l.session("esxi", func(c *esxi.Client) error {
		out, err := Up(ctx, c, []Job{j}, Options{On: func(e Event) {
			if strings.Contains(e.Text, "bridge network") {
				time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
			}
		}})
		if err == nil {
			err = out[0].Err
		}
		return err
	})
	l.disarm()
	var up *UpError
	if !errors.Is(err, why) || !errors.As(err, &up) || len(up.Left) > 0 || up.Step != "create the bridge network t1" {
		t.Errorf("got %v", err)
	}
	time.Sleep(700 * time.Millisecond)
	if d := cmp.Diff(before, l.state().things()); d != "" {
		t.Errorf("the lab is not as it was:\n%s", d)
	}
}

// What is not answered in time may still be made: it counts as left, and a later
// down removes it.
func TestSlowServer(t *testing.T) {
	l := startLab(t, "standalone")
	before := l.state().things()
	l.endpoints["esxi"].CallTimeout = 600 * time.Millisecond
	l.arm(`{"fault": "op-delay", "ms": 1500}`)
	_, _, err := l.up("esxi", l.job("esxi", "t1"), Options{})
	var up *UpError
	if !errors.As(err, &up) || len(up.Left) != 1 || !strings.HasPrefix(up.Left[0], "switch t1 (its making was not answered") {
		t.Fatalf("got %v, %+v", err, up)
	}
	for !strings.Contains(l.state().things(), `"t1"`) { // now it is there
		time.Sleep(50 * time.Millisecond)
	}
	l.disarm()
	if r, _, err := l.down("esxi", l.target("esxi", "t1"), DownOptions{}); err != nil || len(r.Left) > 0 {
		t.Errorf("%+v %v", r, err)
	}
	if d := cmp.Diff(before, l.state().things()); d != "" {
		t.Errorf("the lab is not as it was:\n%s", d)
	}
}

func TestKeep(t *testing.T) {
	l := startLab(t, "standalone")
	before := l.state().things()
	l.arm(`{"fault": "component-fails", "component": "vicadmin"}`)
	_, _, err := l.up("esxi", l.job("esxi", "t1"), Options{Keep: true})
	l.disarm()
	var up *UpError
	if !errors.As(err, &up) || !up.Kept || !strings.Contains(strings.Join(up.Left, ","), "virtual machine t1") {
		t.Fatalf("got %v %+v", err, up)
	}
	_, err = l.session("esxi", func(c *esxi.Client) error {
		d, err := Inspect(t.Context(), c, "t1")
		if err == nil && (len(d.Sessions) != 3 || d.Power != "on") {
			t.Errorf("%+v", d)
		}
		if _, logErr := Logs(t.Context(), c, "t1"); logErr != nil {
			t.Error(logErr)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if r, _, err := l.down("esxi", l.target("esxi", "t1"), DownOptions{}); err != nil || len(r.Left) > 0 {
		t.Errorf("%+v %v", r, err)
	}
	if d := cmp.Diff(before, l.state().things()); d != "" {
		t.Errorf("the lab is not as it was:\n%s", d)
	}
}

// Containers go with their VCH, running ones only by force; a machine that
// somebody put beside them stays, and so does what it is in.
func TestContainersAndForeigners(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			j := l.job(path.via, "t1")
			in, _, err := l.up(path.via, j, Options{})
			if err != nil {
				t.Fatal(err)
			}
			server, err := (&Certificates{ServerCert: mustRead(t, j.CertDir+"/server-cert.pem")}).clientTLS()
			if err != nil {
				t.Fatal(err)
			}
			d := NewDocker(in.DockerHost, server)
			defer d.Close()
			var made struct {
				ID string `json:"Id"`
			}
			if err := d.pull(t.Context(), "/v"+DockerAPI, "hello-world"); err != nil {
				t.Fatal(err)
			}
			if err := d.ask(t.Context(), "create", http.MethodPost, "/v"+DockerAPI+"/containers/create", nil, map[string]any{"Image": "hello-world"}, &made); err != nil {
				t.Fatal(err)
			}
			c := l.dial(path.via)
			details, err := Inspect(t.Context(), c, "t1")
			if err != nil || len(details.Containers) != 1 || details.Containers[0].ID != made.ID {
				t.Fatalf("%+v %v", details, err)
			}
			if i := details.Containers[0]; i.Repo != "hello-world" || !strings.HasPrefix(i.Network, details.Networks[3].Network) || i.Serial == "" || i.Disk == "" || i.Cmd == "" {
				t.Errorf("%+v", i)
			}
			foreign := l.foreign(c, details)
			power := func(id Ref, on bool) {
				vm := object.NewVirtualMachine(c.Vim, id)
				task, err := vm.PowerOn(t.Context())
				if !on {
					task, err = vm.PowerOff(t.Context())
				}
				if err == nil {
					err = task.Wait(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			machines, err := readMachines(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			box := find(machines, func(m Machine) bool { return m.Keys[readPrefix+"common/id"] == made.ID })
			power(box.Ref, true)
			var running *RunningError
			if _, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{}); !errors.As(err, &running) {
				t.Fatalf("got %v, want a RunningError", err)
			}
			r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{Force: true})
			if err != nil || len(r.Left) == 0 || !strings.Contains(strings.Join(r.Left, "\n"), "foreign is in it") {
				t.Errorf("%+v %v", r, err)
			}
			machines, err = readMachines(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if find(machines, func(m Machine) bool { return m.Ref == foreign }) == nil {
				t.Error("the foreign machine is gone")
			}
			if find(machines, func(m Machine) bool { return m.Ref == box.Ref || m.Name == "t1" }) != nil {
				t.Error("the VCH or its container is there")
			}
			// Once it has moved out, the rest goes too.
			task, err := object.NewVirtualMachine(c.Vim, foreign).Destroy(t.Context())
			if err == nil {
				err = task.Wait(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{}); err != nil || len(r.Left) > 0 || len(r.Removed) == 0 {
				t.Errorf("%+v %v", r, err)
			}
		})
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// foreign puts a machine of somebody's into the VCH's pool and folder. Its name
// is made to look like a container's.
func (l *lab) foreign(c *esxi.Client, d *Details) Ref {
	l.t.Helper()
	site, err := ReadSite(l.t.Context(), c, false)
	if err != nil {
		l.t.Fatal(err)
	}
	m, err := site.vch(d.ID)
	if err != nil || m == nil {
		l.t.Fatal(m, err)
	}
	task, err := object.NewFolder(c.Vim, m.Parent).CreateVM(l.t.Context(), types.VirtualMachineConfigSpec{Name: "foreign", GuestId: "otherGuest64",
		Files: &types.VirtualMachineFileInfo{VmPathName: "[datastore1]"}, ExtraConfig: Keys{readPrefix + "common/id": "mine"}.options()}, object.NewResourcePool(c.Vim, m.Pool), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	info, err := task.WaitForResult(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return info.Result.(Ref)
}

// The container of a test shows its words, is found as a machine, and is gone.
func TestTest(t *testing.T) {
	l := startLab(t, "standalone")
	j := l.job("esxi", "t1")
	j.Spec.TLS, j.Spec.Cname = TLSVerify, "t1.lab.local"
	in, _, err := l.up("esxi", j, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ClientTLS(j.CertDir, mustRead(t, j.CertDir+"/server-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	d := NewDocker(in.DockerHost, cfg)
	defer d.Close()
	c := l.dial("esxi")
	res, err := d.Test(t.Context(), c, "hello-world", nil)
	if err != nil || !strings.Contains(res.Output, "Hello from Docker!") || res.Machine == nil || !res.Removed {
		t.Errorf("%+v %v", res, err)
	}
	if list, err := List(t.Context(), c); err != nil || list[0].Containers != 0 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := d.Test(t.Context(), c, "no-such-image", nil); err == nil {
		t.Error("an image that is not there ran")
	}
	// Without the client's certificate nobody is let in.
	stranger, err := (&Certificates{ServerCert: mustRead(t, j.CertDir+"/server-cert.pem")}).clientTLS()
	if err != nil {
		t.Fatal(err)
	}
	s := NewDocker(in.DockerHost, stranger)
	defer s.Close()
	if _, err := s.Test(t.Context(), nil, "hello-world", nil); err == nil {
		t.Error("a stranger was let in")
	}
	// The password in the VCH opens with the key that only its .vmx shows.
	m, err := readMachines(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	me := find(m, func(m Machine) bool { return m.Name == "t1" })
	store, folder := splitPath(me.Path)
	vmx := l.read(c, store, path.Join(folder, "t1.vmx"))
	sk, err := SecretKeyFromVMX(vmx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readDetails(t.Context(), c, []Ref{me.Ref})
	if err != nil {
		t.Fatal(err)
	}
	keys := got[me.Ref].Keys
	if _, shown := keys[ovfEnv]; shown {
		t.Error("the API shows the key")
	}
	var conf Config
	if err := DecodeKeys(keys, &conf, sk); err != nil || conf.Connect.Token != j.Spec.Password.Reveal() || len(conf.Cert.CertificateAuthorities) == 0 {
		t.Errorf("the secrets do not open: %v", err)
	}
}

func (l *lab) read(c *esxi.Client, store, file string) string {
	l.t.Helper()
	res, err := storeRequest(context.Background(), c, http.MethodGet, storeURL(c, "ha-datacenter", store, file), nil, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// Volume stores outlive their VCH unless told otherwise, also when the two are
// taken down one after the other; images beside the appliance go with it.
func TestStores(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			before := l.state().things()
			j := l.job(path.via, "t1")
			j.Spec.ImagePath = "pictures/t1"
			j.Spec.Volumes = []Volume{{Label: "default", Datastore: "datastore1", Path: "vols/t1"}}
			if _, _, err := l.up(path.via, j, Options{}); err != nil {
				t.Fatal(err)
			}
			r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{})
			if err != nil || len(r.Left) > 0 || !strings.Contains(strings.Join(r.Kept, "\n"), "volume store [datastore1] vols/t1") {
				t.Errorf("%+v %v", r, err)
			}
			r, _, err = l.down(path.via, l.target(path.via, "t1"), DownOptions{Volumes: true})
			if err != nil || len(r.Left) > 0 || len(r.Kept) > 0 || !strings.Contains(strings.Join(r.Removed, "\n"), "volume store [datastore1] vols/t1") {
				t.Errorf("%+v %v", r, err)
			}
			if d := cmp.Diff(before, l.state().things()); d != "" {
				t.Errorf("the lab is not as it was:\n%s", d)
			}
		})
	}
}

// What VCHs share goes with the last of them: not with the first, and not when
// one of them fails. A volume store without a path has vic-machine's.
func TestSharedStores(t *testing.T) {
	for _, path := range paths {
		t.Run(path.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, path.scene)
			before := l.state().things()
			for _, fails := range []bool{false, true} {
				jobs := []Job{l.job(path.via, "t1"), l.job(path.via, "t2")}
				for _, j := range jobs {
					j.Spec.ImagePath = "lab/pictures"
					j.Spec.Volumes = []Volume{{Label: "default", Datastore: "datastore1"}}
				}
				if fails {
					l.arm(`{"fault": "component-fails", "component": "vicadmin", "vch": "t1"}`)
				}
				_, err := l.session(path.via, func(c *esxi.Client) error {
					out, err := Up(t.Context(), c, jobs, Options{})
					if err == nil && (out[0].Err != nil) != fails {
						t.Error(out[0].Err)
					}
					if err == nil && out[1].Err != nil {
						t.Error(out[1].Err)
					}
					return err
				})
				l.disarm()
				if err != nil {
					t.Fatal(err)
				}
				for _, j := range jobs {
					j.Journal.Done()
				}
				_, err = l.session(path.via, func(c *esxi.Client) error {
					d, err := Inspect(t.Context(), c, "t2")
					if err == nil && d.VMX[readPrefix+"storage/VolumeLocations|default/Path"] != "[datastore1] VIC" {
						t.Errorf("%v", d.Volumes)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
				if !fails {
					r, _, err := l.down(path.via, l.target(path.via, "t1"), DownOptions{Volumes: true})
					if err != nil || len(r.Left) > 0 || !strings.Contains(strings.Join(r.Kept, "\n"), "volume store [datastore1] VIC/volumes: VCH t2 has it too") {
						t.Errorf("%+v %v", r, err)
					}
				}
				files := string(l.state().Files)
				if !strings.Contains(files, `"[datastore1] VIC/volumes/"`) || !strings.Contains(files, `"[datastore1] lab/pictures/kvStores/"`) || strings.Contains(files, "] t1/") {
					t.Errorf("while t2 is there:\n%s", files)
				}
				// What is known of t1 on this machine is not needed for it.
				l.dir = t.TempDir()
				r, _, err := l.down(path.via, l.target(path.via, "t2"), DownOptions{Volumes: true})
				if err != nil || len(r.Left) > 0 || len(r.Kept) > 0 {
					t.Errorf("%+v %v", r, err)
				}
				if d := cmp.Diff(before, l.state().things()); d != "" {
					t.Errorf("the lab is not as it was:\n%s", d)
				}
			}
		})
	}
}

// What was there before, a switch that somebody's tool left, or a port group of
// the name, is used and stays.
func TestBridgeThatWasThere(t *testing.T) {
	l := startLab(t, "standalone")
	c := l.dial("esxi")
	site, err := ReadSite(t.Context(), c, false)
	if err != nil {
		t.Fatal(err)
	}
	system := site.Hosts[0].NetworkSystem
	for _, add := range []func() error{
		func() error {
			_, err := methods.AddVirtualSwitch(t.Context(), c.Vim, &types.AddVirtualSwitch{This: system, VswitchName: "t1", Spec: &types.HostVirtualSwitchSpec{NumPorts: 1024}})
			return err
		},
		func() error {
			_, err := methods.AddPortGroup(t.Context(), c.Vim, &types.AddPortGroup{This: system, Portgrp: types.HostPortGroupSpec{Name: "t1", VswitchName: "t1"}})
			return err
		},
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		before := l.state().things()
		for _, fault := range []string{"", `{"fault": "component-fails", "component": "vicadmin"}`} {
			if fault != "" {
				l.arm(fault)
			}
			_, _, err := l.up("esxi", l.job("esxi", "t1"), Options{})
			l.disarm()
			if (err != nil) != (fault != "") {
				t.Fatal(err)
			}
			if fault == "" {
				if r, _, err := l.down("esxi", l.target("esxi", "t1"), DownOptions{}); err != nil || len(r.Left) > 0 {
					t.Errorf("%+v %v", r, err)
				}
			}
			if d := cmp.Diff(before, l.state().things()); d != "" {
				t.Errorf("%s: the lab is not as it was:\n%s", fault, d)
			}
		}
	}
}

// vic-machine forbids vCenter's users to destroy its VCHs. Down lifts that.
func TestDestroyDisabled(t *testing.T) {
	l := startLab(t, "nuc")
	before := l.state().things()
	in, _, err := l.up("vcenter", l.job("vcenter", "t1"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := l.dial("vcenter")
	ref := Ref{Type: "VirtualMachine", Value: in.ID}
	reason := []object.DisabledMethodRequest{{Method: "Destroy_Task", Reason: "managed by VIC"}}
	if err := object.NewAuthorizationManager(c.Vim).DisableMethods(t.Context(), []Ref{ref}, reason, "VIC"); err != nil {
		t.Fatal(err)
	}
	if _, err := methods.Destroy_Task(t.Context(), c.Vim, &types.Destroy_Task{This: ref}); faultOf(err) != "MethodDisabled" {
		t.Fatalf("the lab lets it be destroyed: %v", err)
	}
	r, _, err := l.down("vcenter", l.target("vcenter", "t1"), DownOptions{})
	if err != nil || len(r.Left) > 0 || !r.Found {
		t.Errorf("%+v, %v", r, err)
	}
	if d := cmp.Diff(before, l.state().things()); d != "" {
		t.Errorf("the lab is not as it was:\n%s", d)
	}
}

// A whole datastore is never removed, whatever a configuration says.
func TestNeverTheDatastore(t *testing.T) {
	for _, name := range []string{"[ds] ", "[ds]", "[ds] /", "[ds] .", "[ds] a/..", "ds", ""} {
		v := &victim{}
		k := &cleaner{site: &Site{}}
		k.files(t.Context(), v, Object{Kind: "volume", Name: name})
		if len(v.left) != 1 {
			t.Errorf("%q: %v", name, v.left)
		}
	}
}
