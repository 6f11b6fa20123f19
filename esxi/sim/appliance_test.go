package sim

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/license"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/internal/skipped"
)

// vchOf waits until a VCH is as wanted and gives its state.
func vchOf(t *testing.T, l *Lab, name string, want ...string) VCHState {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var st VCHState
		for _, v := range l.State().VCHs {
			if v.Name == name {
				st = v
			}
		}
		for _, w := range want {
			if st.Phase == w {
				return st
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("VCH %s is %+v, not %s", name, st, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestTheGoldenKeysBoot(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "vch", Boot: 20 * time.Millisecond})
	st := vchOf(t, l, "vch1", "up", "failed")
	if st.Phase != "up" || st.Pool != "vch1" {
		t.Fatalf("%+v", st)
	}
	same(t, "what the components say", st.Components, map[string]string{"port-layer": "true", "docker-personality": "true", "vicadmin": "true"})
	code, body := get(t, strings.Replace(st.DockerHost, "tcp", "https", 1)+"/info")
	var info struct {
		Driver       string
		SystemStatus [][2]string
	}
	if err := json.Unmarshal([]byte(body), &info); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	running := false
	for _, s := range info.SystemStatus {
		running = running || s == [2]string{info.Driver, "RUNNING"}
	}
	if !running {
		t.Errorf("the endpoint does not say that it runs: %s", body)
	}

	// The real client, where there is one.
	docker, err := exec.LookPath("docker")
	if err != nil {
		skipped.Test(t, "no docker client is installed, on Debian docker.io")
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t), docker, append([]string{"-H", st.DockerHost, "--tls", "--tlscacert="}, args...)...)
		cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := run("run", "--name", "greeter", "hello-world"); !strings.Contains(out, "Hello from Docker!") {
		t.Errorf("hello-world says %q", out)
	}
	boxes := vchOf(t, l, "vch1", "up").Containers
	if len(boxes) != 1 || boxes[0].Name != "greeter" || boxes[0].State != "exited" {
		t.Fatalf("containers: %+v", boxes)
	}
	c := connect(t, l, "vcenter")
	keys := c.settings(c.vm(boxes[0].VM))
	if keys[readOnly+"repo"] != "hello-world" || keys[readOnly+"common/id"] != boxes[0].ID {
		t.Errorf("the container's VM has repo %q, id %q", keys[readOnly+"repo"], keys[readOnly+"common/id"])
	}
	if out := run("logs", "greeter"); !strings.Contains(out, "Hello from Docker!") {
		t.Errorf("its log is %q", out)
	}
	if out := run("ps", "-a"); !strings.Contains(out, "greeter") {
		t.Errorf("it is not listed: %q", out)
	}
	run("rm", "greeter")
	if out := run("run", "--rm", "busybox", "echo", "one", "two"); !strings.Contains(out, "one two\n") {
		t.Errorf("busybox says %q", out)
	}
	run("run", "-d", "--name", "server", "nginx")
	run("create", "--name", "spare", "busybox", "echo", "spare")
	vm := c.vm("vch1")
	for _, call := range []func(context.Context) (*object.Task, error){vm.PowerOff, vm.PowerOn} {
		task, err := call(within(t))
		if err == nil {
			err = task.Wait(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	st = vchOf(t, l, "vch1", "up", "failed") // with another address
	names := map[string]string{}
	for _, b := range st.Containers {
		names[b.Name] = b.State
	}
	same(t, "containers after a restart", names, map[string]string{"server": "running", "spare": "exited"})
	if out := run("start", "-a", "spare"); out != "spare\n" {
		t.Errorf("a container of before says %q", out)
	}
	run("rm", "spare")
	if boxes := vchOf(t, l, "vch1", "up").Containers; len(boxes) != 1 || boxes[0].State != "running" {
		t.Errorf("containers: %+v", boxes)
	}
	run("rm", "-f", "server")
	for _, v := range l.State().Hosts[0].VMs {
		if strings.Contains(v.Name, "server") || strings.Contains(v.Name, "greeter") {
			t.Errorf("VM %s is left", v.Name)
		}
	}
}

// vch is a VCH that a test has made over the wire, as an installer would.
type vch struct {
	c    *client
	name string
	vm   *object.VirtualMachine
	pool *object.ResourcePool
}

// deploy makes a VCH with the golden keys, changed as a test likes, and uploads its images. It is not powered on.
func deploy(t *testing.T, l *Lab, path, name string, mutate func(keys map[string]string)) *vch {
	t.Helper()
	c := connect(t, l, path)
	e := l.VCenter()
	pin := l.vcenter.sha1()
	folder := c.vmFolder()
	var bridge types.BaseVirtualDeviceBackingInfo
	var bridgeRef types.ManagedObjectReference
	if path == "vcenter" {
		var err error
		if folder, err = folder.CreateFolder(within(t), name); err != nil {
			t.Fatal(err)
		}
		bridge, bridgeRef = dvBacking("dvportgroup-25"), types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: "dvportgroup-25"}
	} else {
		e, pin = l.Hosts()[0], l.hosts[0].sha1()
		ns := c.network()
		if err := ns.AddVirtualSwitch(within(t), name, &types.HostVirtualSwitchSpec{NumPorts: 1024}); err != nil {
			t.Fatal(err)
		}
		if err := ns.AddPortGroup(within(t), types.HostPortGroupSpec{Name: name, VlanId: 1, VswitchName: name}); err != nil {
			t.Fatal(err)
		}
		bridge, bridgeRef = standardBacking(name), types.ManagedObjectReference{Type: "Network", Value: "HaNetwork-" + name}
	}
	all, err := c.finder().NetworkList(within(t), "VM Network")
	if err != nil {
		t.Fatal(err)
	}
	var public types.ManagedObjectReference
	for _, n := range all {
		if n.Reference().Type == "Network" { // DVS0 has one of that name too
			public = n.Reference()
		}
	}
	v := &vch{c: c, name: name, pool: c.pool(name)}
	v.vm = c.create2(folder, v.pool, applianceSpec(name, []types.BaseVirtualDeviceBackingInfo{standardBacking("VM Network"), bridge},
		map[string]string{readOnly + "init/common/id": "CreatingVCH"}))
	keys, err := vicKeys(name, datastore, v.vm.Reference(), v.pool.Reference(), public, bridgeRef)
	if err != nil {
		t.Fatal(err)
	}
	keys[readOnly+"connect/target"], keys[readOnly+"connect/target_thumbprint"], keys[readOnly+"connect/username"] = "https://vsphere.lab.local", pin, e.User
	if err := seal(keys, name, e.Password); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"appliance", "bootstrap"} {
		if err := c.upload(name+"/"+bundleVersion+"-"+image+".iso", fakeISO(bundleVersion, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	dir := "[datastore1] " + name + "/"
	v.reconfigure(types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		cdrom(dir + bundleVersion + "-appliance.iso"),
		addDevice(&types.VirtualSerialPort{YieldOnPoll: true, VirtualDevice: types.VirtualDevice{
			Key: -50, Backing: &types.VirtualSerialPortFileBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: dir + "tether.debug"}},
		}}),
	}})
	if mutate != nil {
		mutate(keys)
	}
	v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(keys)})
	return v
}

func (v *vch) reconfigure(spec types.VirtualMachineConfigSpec) {
	v.c.t.Helper()
	task, err := v.vm.Reconfigure(within(v.c.t), spec)
	if err == nil {
		err = task.Wait(within(v.c.t))
	}
	if err != nil {
		v.c.t.Fatal(err)
	}
}

func (v *vch) power(on bool) {
	t := v.c.t
	t.Helper()
	call := v.vm.PowerOff
	if on {
		call = v.vm.PowerOn
	}
	task, err := call(within(t))
	if err == nil {
		err = task.Wait(within(t))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAVCHBootsOnBothPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"vcenter", "esxi"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := start(t, Options{Scene: "standard", Boot: 20 * time.Millisecond})
			before := l.State()
			v := deploy(t, l, path, "t1", nil)
			if path == "vcenter" {
				dc, err := v.c.finder().DefaultDatacenter(within(t))
				if err != nil {
					t.Fatal(err)
				}
				task, err := dc.PowerOnVM(within(t), []types.ManagedObjectReference{v.vm.Reference()}, &types.OptionValue{Key: "OverrideAutomationLevel", Value: "fullyAutomated"})
				if err == nil {
					err = task.Wait(within(t))
				}
				if err != nil {
					t.Fatal(err)
				}
			} else {
				v.power(true)
			}
			// An installer waits for the keys that the guest writes.
			pc := property.DefaultCollector(v.c.Client)
			err := property.Wait(within(t), pc, v.vm.Reference(), []string{"config.extraConfig", "runtime.powerState"}, func(list []types.PropertyChange) bool {
				for _, c := range list {
					if a, ok := c.Val.(types.ArrayOfOptionValue); ok {
						for _, o := range a.OptionValue {
							if o.GetOptionValue().Key == readWrite+"init.sessions|vicadmin.started" && o.GetOptionValue().Value == "true" {
								return true
							}
						}
					}
				}
				return false
			})
			if err != nil {
				t.Fatal(err)
			}
			st := vchOf(t, l, "t1", "up")
			keys := v.c.settings(v.vm)
			raw, err := base64.StdEncoding.DecodeString(keys[readWrite+"init.networks|client.assigned.IP"])
			if err != nil || net.IP(raw).String() != st.IP {
				t.Errorf("the client address is %v in the keys and %s in the state", raw, st.IP)
			}
			var m mo.VirtualMachine
			if err := v.vm.Properties(within(t), v.vm.Reference(), []string{"guest"}, &m); err != nil || m.Guest.IpAddress != st.IP {
				t.Errorf("the tools report %+v, %v", m.Guest, err)
			}
			if code, _ := get(t, strings.Replace(st.DockerHost, "tcp", "https", 1)+"/v1.25/info"); code != http.StatusOK {
				t.Errorf("/info answers %d", code)
			}
			if log, err := v.c.download("t1/tether.debug"); err != nil || !strings.Contains(log, "vicadmin: started: true") {
				t.Errorf("the log is %q, %v", log, err)
			}

			dc, err := v.c.finder().DefaultDatacenter(within(t))
			if err != nil {
				t.Fatal(err)
			}
			task, err := object.NewFileManager(v.c.Client).DeleteDatastoreFile(within(t), "[datastore1] t1", dc)
			if err == nil {
				err = task.Wait(within(t))
			}
			if !fault.Is(err, &types.FileLocked{}) {
				t.Errorf("deleting the files of a running VCH: %v", err)
			}

			v.power(false)
			if _, err := net.DialTimeout("tcp", strings.TrimPrefix(st.DockerHost, "tcp://"), patience); err == nil {
				time.Sleep(50 * time.Millisecond) // the endpoint closes a moment after the power
				if _, err := net.DialTimeout("tcp", strings.TrimPrefix(st.DockerHost, "tcp://"), patience); err == nil {
					t.Error("the endpoint outlives the power")
				}
			}
			keys = v.c.settings(v.vm)
			if _, ok := keys[readWrite+"init.networks|client.assigned.IP"]; ok || keys[readWrite+"init.sessions|vicadmin.started"] != emptyText {
				t.Error("what the guest wrote outlives the power")
			}
			v.power(true)
			vchOf(t, l, "t1", "up")

			if err := l.Reset(); err != nil {
				t.Fatal(err)
			}
			same(t, "the state after a reset", l.State(), before)
		})
	}
}

func TestWhatKeepsAVCHFromBooting(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard", Boot: time.Millisecond})
	golden := map[string]string{}
	v := deploy(t, l, "esxi", "t1", func(keys map[string]string) {
		for k, val := range keys {
			golden[k] = val
		}
	})
	v.power(true)
	if st := vchOf(t, l, "t1", "up", "failed"); st.Phase != "up" {
		t.Fatalf("untouched it does not boot: %+v", st)
	}
	v.power(false)
	r := func(k string) string { return readOnly + k }
	for _, tc := range []struct{ name, key, value, component, want string }{
		{"no key for secrets", ovfEnvKey, "", "port-layer", "cannot be decrypted"},
		{"another key for secrets", ovfEnvKey, base64.StdEncoding.EncodeToString(make([]byte, 32)), "port-layer", "the key is another one"},
		{"no password", r("connect/token@secret"), "", "port-layer", "connect/token is missing"},
		{"another user", r("connect/username"), "alice", "port-layer", "user name or password"},
		{"another certificate", r("connect/target_thumbprint"), "AA:BB", "port-layer", "certificate"},
		{"a target nobody knows", r("connect/target"), "https://elsewhere.lab.local", "port-layer", "no such host"},
		{"loopback", r("connect/target"), "https://127.0.0.1:443", "port-layer", "no such host"},
		{"a password in the target", r("connect/target"), "https://root:x@vsphere.lab.local", "port-layer", "names a user"},
		{"two pools", r("container/ComputeResources"), "1", "port-layer", "exactly one"},
		{"a pool that is gone", r("container/ComputeResources|0/Value"), "resgroup-999", "port-layer", "resgroup-999"},
		{"no bootstrap image", r("container/bootstrap_image_path"), "[datastore1] t1/none.iso", "port-layer", "no such file"},
		{"no image store", r("storage/image_stores"), "", "port-layer", "image_stores"},
		{"an image store on no datastore", r("storage/image_stores|0/Host"), "elsewhere", "port-layer", "elsewhere"},
		{"no container network", r("network/container_networks"), "", "port-layer", "container_networks"},
		{"a container network that is gone", r("network/container_networks|bridge/Common/id"), "Network:none", "port-layer", "Network:none"},
		{"a session too few", r("init/sessions"), "port-layer|vicadmin", "docker-personality", "init/sessions"},
		{"another program", r("init/sessions|docker-personality/cmd/Path"), "/bin/true", "docker-personality", "no such file"},
		{"arguments that do not add up", r("init/sessions|port-layer/cmd/Args"), "7", "port-layer", "elements"},
		{"the wrong port", r("init/sessions|docker-personality/cmd/Args~"), "/sbin/docker-engine-server|-port=2375|-port-layer-port=2377", "docker-personality", "2375"},
		{"a key pair that is none", r("cert/HostCertificate/Cert"), "AAAA", "docker-personality", "HostCertificate"},
		{"a VM that is another one", r("init/common/id"), "VirtualMachine:vm-999", "", "not this VM"},
		{"no management network", r("init/networks"), "bridge|client|public", "", "no management"},
		{"a slot without an adapter", r("init/networks|public/Common/id"), "1248", "", "slot 1248"},
		{"a bridge that is shared", r("init/networks|bridge/Common/id"), "1184", "", "shares"},
		{"a static address that is missing", r("init/networks|public/static"), "true", "", "no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(map[string]string{tc.key: tc.value})})
			v.power(true)
			st := vchOf(t, l, "t1", "up", "failed")
			if st.Phase != "failed" || !strings.Contains(st.Reason, tc.want) {
				t.Errorf("it is %s: %q, want %q", st.Phase, st.Reason, tc.want)
			}
			for c, said := range st.Components {
				if c == tc.component && !strings.Contains(said, tc.want) || c != tc.component && said != "true" {
					t.Errorf("%s says %q", c, said)
				}
			}
			if (st.IP == "") != (tc.component == "") {
				t.Errorf("its address is %q", st.IP)
			}
			v.power(false)
			v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(golden)})
		})
	}
	t.Run("another password", func(t *testing.T) {
		keys := maps.Clone(golden)
		if err := seal(keys, "t1", "wrong"); err != nil {
			t.Fatal(err)
		}
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(keys)})
		v.power(true)
		if st := vchOf(t, l, "t1", "up", "failed"); !strings.Contains(st.Reason, "user name or password") {
			t.Errorf("%+v", st)
		}
		v.power(false)
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(golden)})
	})
	t.Run("an image that is cut off", func(t *testing.T) {
		whole := fakeISO(bundleVersion, 1<<20)
		file := "t1/" + bundleVersion + "-appliance.iso"
		if err := v.c.upload(file, whole[:len(whole)-2048]); err != nil {
			t.Fatal(err)
		}
		v.power(true)
		if st := vchOf(t, l, "t1", "up", "failed"); !strings.Contains(st.Reason, "cut off") || len(st.Components) > 0 {
			t.Errorf("%+v", st)
		}
		v.power(false)
		if err := v.c.upload(file, whole); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("keys changed while it ran", func(t *testing.T) { // vmware/vic issue 8148
		v.power(true)
		vchOf(t, l, "t1", "up")
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(map[string]string{r("registry/insecure_registries"): "0"})})
		v.power(false)
		v.power(true)
		if st := vchOf(t, l, "t1", "up", "failed"); !strings.Contains(st.Reason, "there is no key") {
			t.Errorf("%+v", st)
		}
		v.power(false)
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(golden)})
	})
	for _, tc := range []struct {
		f    Fault
		want string
		ip   bool
	}{
		{Fault{Fault: "no-address", VCH: "t1"}, "DHCP", false},
		{Fault{Fault: "component-fails", Component: "docker-personality"}, "docker-personality: ", true},
		{Fault{Fault: "component-fails", Component: "vicadmin", VCH: "t1", Count: 1}, "vicadmin: ", true},
	} {
		t.Run(tc.f.Fault+" "+tc.f.Component, func(t *testing.T) {
			if err := l.Arm(tc.f); err != nil {
				t.Fatal(err)
			}
			v.power(true)
			if st := vchOf(t, l, "t1", "up", "failed"); !strings.Contains(st.Reason, tc.want) || (st.IP != "") != tc.ip {
				t.Errorf("%+v", st)
			}
			v.power(false)
			l.Disarm()
		})
	}
	t.Run("a static address", func(t *testing.T) {
		static := func(ip net.IP) map[string]string {
			keys := map[string]string{}
			for _, role := range []string{"client", "management", "public"} {
				p := r("init/networks|" + role)
				keys[p+"/static"], keys[p+"/ip/IP"], keys[p+"/ip/Mask"] = "true", base64.StdEncoding.EncodeToString(ip.To16()), "/wAAAA=="
			}
			return keys
		}
		mine := net.IPv4(127, 45, byte(os.Getpid()>>8), byte(os.Getpid()))
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(static(mine))})
		v.power(true)
		if st := vchOf(t, l, "t1", "up", "failed"); st.IP != mine.String() || st.Phase != "up" {
			t.Errorf("on loopback: %+v", st)
		}
		v.power(false)
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(static(net.IPv4(192, 0, 2, 9)))})
		v.power(true)
		if st := vchOf(t, l, "t1", "up", "failed"); st.IP != "192.0.2.9" || !strings.Contains(st.Components["docker-personality"], "cannot assign") {
			t.Errorf("elsewhere: %+v", st)
		}
		v.power(false)
		back := map[string]string{}
		for k := range static(mine) {
			back[k] = golden[k]
		}
		v.reconfigure(types.VirtualMachineConfigSpec{ExtraConfig: options(back)})
	})
	t.Run("boot-power-off", func(t *testing.T) {
		if err := l.Arm(Fault{Fault: "boot-power-off", Count: 1}); err != nil {
			t.Fatal(err)
		}
		v.power(true)
		if st := vchOf(t, l, "t1", "off"); st.Power != "off" {
			t.Errorf("%+v", st)
		}
		v.power(true)
		st := vchOf(t, l, "t1", "up")
		if err := l.Arm(Fault{Fault: "link-down", Host: "nuc01", Pnic: "vmnic0"}); err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		if res, err := c.Get(strings.Replace(st.DockerHost, "tcp", "https", 1) + "/_ping"); err == nil {
			res.Body.Close()
			t.Error("the endpoint answers without a link")
		}
		l.Disarm()
		if code, _ := get(t, strings.Replace(st.DockerHost, "tcp", "https", 1)+"/_ping"); code != http.StatusOK {
			t.Errorf("with the link back it answers %d", code)
		}
		if err := v.vm.ShutdownGuest(within(t)); err != nil {
			t.Fatal(err)
		}
		vchOf(t, l, "t1", "off")
	})
}

func TestClientCertificatesAndPlainDocker(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard", Boot: time.Millisecond})
	ca, err := selfSigned("ca")
	if err != nil {
		t.Fatal(err)
	}
	deploy(t, l, "esxi", "strict", func(keys map[string]string) {
		keys[readOnly+"cert/CertificateAuthorities"] = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}))
	}).power(true)
	st := vchOf(t, l, "strict", "up")
	for _, own := range []bool{true, false} {
		conf := &tls.Config{InsecureSkipVerify: true}
		if own {
			conf.Certificates = []tls.Certificate{ca}
		}
		c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: conf}}
		res, err := c.Get(strings.Replace(st.DockerHost, "tcp", "https", 1) + "/_ping")
		if err == nil {
			res.Body.Close()
		}
		c.CloseIdleConnections()
		// The authority's certificate is for servers, so it does not do as a client's either: what counts is the alert.
		if !own && err == nil {
			t.Error("a client without a certificate is let in")
		}
	}
	deploy(t, l, "esxi", "open", func(keys map[string]string) {
		delete(keys, readOnly+"cert/HostCertificate/Cert")
		delete(keys, readOnly+"cert/HostCertificate/Key@secret")
		keys[readOnly+"init/sessions|docker-personality/cmd/Args~"] = "/sbin/docker-engine-server|-port=2375|-port-layer-port=2377"
	}).power(true)
	st = vchOf(t, l, "open", "up")
	if !strings.HasSuffix(st.DockerHost, ":2375") {
		t.Errorf("without TLS the endpoint is %s", st.DockerHost)
	}
	if code, body := get(t, strings.Replace(st.DockerHost, "tcp", "http", 1)+"/_ping"); code != http.StatusOK || body != "OK" {
		t.Errorf("/_ping: %d %s", code, body)
	}
	for path, want := range map[string]int{"/v1.41/info": http.StatusBadRequest, "/v1.18/info": http.StatusBadRequest, "/v1.19/info": http.StatusOK, "/v1.25/containers/none/json": http.StatusNotFound} {
		if code, body := get(t, strings.Replace(st.DockerHost, "tcp", "http", 1)+path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

func TestHostsWithoutWhatAVCHNeeds(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard"})
	c := connect(t, l, "esxi")
	serial := func() bool {
		lm := license.NewManager(c.Client)
		list, err := lm.List(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list {
			for _, p := range info.Properties {
				if f, ok := p.Value.(types.KeyValue); ok && p.Key == "feature" && strings.HasPrefix(f.Key, "serialuri") {
					return true
				}
			}
		}
		return false
	}
	open := func() bool {
		for _, path := range []string{"esxi", "vcenter"} {
			c := connect(t, l, path)
			var h mo.HostSystem
			if err := c.host1().Properties(within(t), c.host.Self, []string{"config.firewall"}, &h); err != nil {
				t.Fatal(err)
			}
			for _, r := range h.Config.Firewall.Ruleset {
				if r.Key == vspcRules && r.Enabled {
					return true
				}
			}
		}
		return false
	}
	if !serial() || !open() {
		t.Error("at the start something is missing")
	}
	for _, f := range []Fault{{Fault: "no-license"}, {Fault: "firewall-closed", Host: "nuc01"}} {
		if err := l.Arm(f); err != nil {
			t.Fatal(err)
		}
	}
	if serial() || open() {
		t.Error("faults change nothing")
	}
	l.Disarm()
	if !serial() || !open() {
		t.Error("disarmed they still strike")
	}
}

func TestTheFirstLabsVCH(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "vic-0.4"})
	for _, path := range []string{"esxi", "vcenter"} {
		c := connect(t, l, path)
		vch, box := c.settings(c.vm("VCH001")), c.settings(c.vm(oldContainer))
		for k, want := range map[string]string{
			"guestinfo./common/name": "jolly_panini", "guestinfo./repo": "hello-world", "guestinfo./sessions|" + oldContainer + "/cmd/Path": "/hello",
		} {
			if box[k] != want {
				t.Errorf("%s: %s is %q, want %q", path, k, box[k], want)
			}
		}
		for k := range maps.Keys(vch) {
			if strings.HasPrefix(k, readOnly) || strings.HasPrefix(k, readWrite) {
				t.Errorf("%s: %s is of a later VIC", path, k)
			}
		}
	}
}

func TestTheConfigurationHasABundle(t *testing.T) {
	t.Parallel()
	for _, scene := range []string{"nuc", "standalone"} {
		l := start(t, Options{Scene: scene})
		file := filepath.Join(t.TempDir(), "lab.yaml")
		if err := l.WriteConfig(file); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]bool{"\nvcenter:": scene == "nuc", "bridge_network: " + bridgeGroup: scene == "nuc", "target: https://" + everyName: true} {
			if strings.Contains(string(text), key) != want {
				t.Errorf("%s: %q is in the configuration: %t", scene, key, !want)
			}
		}
		for _, image := range []string{"appliance.iso", "bootstrap.iso"} {
			iso := filepath.Join(file+".bundle", image)
			if err := wholeISO(iso); err != nil {
				t.Errorf("%s: %v", image, err)
			}
			b, err := os.ReadFile(iso)
			if err != nil {
				t.Fatal(err)
			}
			publisher := strings.Fields(string(b[isoVolume+318 : isoVolume+318+128]))
			if publisher[len(publisher)-1] != bundleVersion {
				t.Errorf("%s is published by %q", image, publisher)
			}
		}
	}
}
