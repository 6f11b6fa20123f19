package sim

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// applianceSpec is a VM with the devices of a VCH's appliance, on one network.
func applianceSpec(name string, nets []types.BaseVirtualDeviceBackingInfo, keys map[string]string) types.VirtualMachineConfigSpec {
	add := func(d types.BaseVirtualDevice) types.BaseVirtualDeviceConfigSpec {
		return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}
	}
	spec := types.VirtualMachineConfigSpec{
		Name: name, GuestId: "otherGuest64", AlternateGuestName: "Photon - VCH", NumCPUs: 1, MemoryMB: 2048,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[datastore1]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{
			add(&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
				SharedBus: types.VirtualSCSISharingNoSharing, VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -1}}}}),
		},
	}
	for i, b := range nets {
		spec.DeviceChange = append(spec.DeviceChange, add(&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
			VirtualDevice: types.VirtualDevice{Key: int32(-10 - i), Backing: b, SlotInfo: &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: int32(1184 + 32*i)}},
		}}}))
	}
	for k, v := range keys {
		spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: k, Value: v})
	}
	return spec
}

func (c *client) pool(name string) *object.ResourcePool {
	c.t.Helper()
	root, err := c.host1().ResourcePool(within(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := root.Create(within(c.t), name, types.DefaultResourceConfigSpec())
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *client) host1() *object.HostSystem { return object.NewHostSystem(c.Client, c.host.Self) }

func (c *client) create2(folder *object.Folder, pool *object.ResourcePool, spec types.VirtualMachineConfigSpec) *object.VirtualMachine {
	c.t.Helper()
	task, err := folder.CreateVM(within(c.t), spec, pool, c.host1())
	if err != nil {
		c.t.Fatal(err)
	}
	info, err := task.WaitForResult(within(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	return object.NewVirtualMachine(c.Client, info.Result.(types.ManagedObjectReference))
}

func (c *client) vmFolder() *object.Folder {
	c.t.Helper()
	dc, err := c.finder().DefaultDatacenter(within(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	f, err := dc.Folders(within(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	return f.VmFolder
}

func (c *client) settings(v *object.VirtualMachine) map[string]string {
	c.t.Helper()
	var m mo.VirtualMachine
	if err := v.Properties(within(c.t), v.Reference(), []string{"config.extraConfig"}, &m); err != nil {
		c.t.Fatal(err)
	}
	keys := map[string]string{}
	for _, o := range m.Config.ExtraConfig {
		keys[o.GetOptionValue().Key], _ = o.GetOptionValue().Value.(string)
	}
	return keys
}

func (c *client) datastore1() *object.Datastore {
	c.t.Helper()
	ds, err := c.finder().Datastore(within(c.t), datastore)
	if err != nil {
		c.t.Fatal(err)
	}
	return ds
}

func (c *client) download(file string) (string, error) {
	r, _, err := c.datastore1().Download(within(c.t), file, &soap.DefaultDownload)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func (c *client) upload(file string, data []byte) error {
	return c.datastore1().Upload(within(c.t), bytes.NewReader(data), file, &soap.DefaultUpload)
}

func paths(t *testing.T, f func(t *testing.T, l *Lab, c, other *client, net types.BaseVirtualDeviceBackingInfo)) {
	for path, other := range map[string]string{"vcenter": "esxi", "esxi": "vcenter"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := start(t, Options{Scene: "standard"})
			f(t, l, connect(t, l, path), connect(t, l, other), standardBacking("VM Network"))
		})
	}
}

func TestAnApplianceIsMadeAndSeenOnBothPaths(t *testing.T) {
	t.Parallel()
	paths(t, func(t *testing.T, l *Lab, c, other *client, net types.BaseVirtualDeviceBackingInfo) {
		before := l.State()
		pool := c.pool("t1")
		v := c.create2(c.vmFolder(), pool, applianceSpec("t1", []types.BaseVirtualDeviceBackingInfo{net}, map[string]string{
			"guestinfo.vice./init/common/id": "CreatingVCH", ovfEnvKey: "c2VjcmV0", "labctl.empty": "",
		}))
		keys := c.settings(v)
		if keys["guestinfo.vice./init/common/id"] != "CreatingVCH" {
			t.Errorf("the marker is %q", keys["guestinfo.vice./init/common/id"])
		}
		for _, k := range []string{ovfEnvKey, "labctl.empty"} {
			if _, ok := keys[k]; ok {
				t.Errorf("%s is shown", k)
			}
		}
		twin := other.vm("t1")
		if other.settings(twin)["guestinfo.vice./init/common/id"] != "CreatingVCH" {
			t.Error("the other path does not know the marker")
		}
		inPool, err := twin.ResourcePool(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if name, err := inPool.ObjectName(within(t)); err != nil || name != "t1" {
			t.Errorf("the other path shows it in pool %q, %v", name, err)
		}

		// One more reconfiguration, as vic-machine does: a CD-ROM, a serial port, keys changed and taken away.
		devices, err := v.Device(within(t))
		if err != nil {
			t.Fatal(err)
		}
		ide, err := devices.FindIDEController("")
		if err != nil {
			t.Fatal(err)
		}
		cd, err := devices.CreateCdrom(ide)
		if err != nil {
			t.Fatal(err)
		}
		cd = devices.InsertIso(cd, "[datastore1] t1/appliance.iso")
		task, err := v.Reconfigure(within(t), types.VirtualMachineConfigSpec{
			DeviceChange: []types.BaseVirtualDeviceConfigSpec{
				&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: cd},
				&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &types.VirtualSerialPort{
					YieldOnPoll: true, VirtualDevice: types.VirtualDevice{Key: -1, Backing: &types.VirtualSerialPortFileBackingInfo{
						VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[datastore1] t1/tether.debug"}}}}},
			},
			ExtraConfig: []types.BaseOptionValue{
				&types.OptionValue{Key: "guestinfo.vice./init/common/id", Value: v.Reference().String()},
				&types.OptionValue{Key: "labctl.ttl", Value: "4h"}, &types.OptionValue{Key: ovfEnvKey, Value: "YW5vdGhlcg=="},
			},
		})
		if err == nil {
			err = task.Wait(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		vmx, err := c.download("t1/t1.vmx")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`guestinfo.ovfEnv = "YW5vdGhlcg=="`, `guestinfo.vice./init/common/id = "` + v.Reference().String() + `"`} {
			if !strings.Contains(vmx, want) {
				t.Errorf("the .vmx file has no %s", want)
			}
		}
		devices, err = v.Device(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices.SelectByType((*types.VirtualVmxnet3)(nil)) {
			if s, ok := d.GetVirtualDevice().SlotInfo.(*types.VirtualDevicePciBusSlotInfo); !ok || s.PciSlotNumber != 1184 {
				t.Errorf("the card is in slot %v", d.GetVirtualDevice().SlotInfo)
			}
		}

		// A keyed read finds the marker without the rest.
		var m mo.VirtualMachine
		res, err := property.DefaultCollector(c.Client).RetrieveProperties(within(t), types.RetrieveProperties{SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: v.Reference()}},
			PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{`config.extraConfig["guestinfo.vice./init/common/id"]`}}},
		}}})
		if err != nil || len(res.Returnval) != 1 || len(res.Returnval[0].PropSet) != 1 {
			t.Fatalf("a keyed read: %v, %v", res, err)
		}
		if o, ok := res.Returnval[0].PropSet[0].Val.(types.OptionValue); !ok || o.Value != v.Reference().String() {
			t.Errorf("a keyed read gives %v", res.Returnval[0].PropSet[0].Val)
		}
		_ = m

		if _, err := c.vmFolder().CreateVM(within(t), applianceSpec("t1", nil, nil), pool, c.host1()); !fault.Is(err, &types.DuplicateName{}) {
			t.Errorf("a second VM of that name: %v", err)
		}

		// Destroying it leaves what is not the VM's, and the directory.
		if err := c.upload("t1/appliance.iso", []byte("iso")); err != nil {
			t.Fatal(err)
		}
		task, err = v.Destroy(within(t))
		if err == nil {
			err = task.Wait(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		same(t, "what is left on the datastore", l.State().Files, []FileState{{"[datastore1] t1/", 0}, {"[datastore1] t1/appliance.iso", 3}})
		fm := object.NewFileManager(c.Client)
		dc, err := c.finder().DefaultDatacenter(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if task, err = fm.DeleteDatastoreFile(within(t), "[datastore1] t1", dc); err == nil {
			err = task.Wait(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		if task, err = pool.Destroy(within(t)); err == nil {
			err = task.Wait(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		after := l.State()
		after.Requests = before.Requests
		same(t, "the state after all is gone", after, before)
	})
}

func TestFilesOverHTTP(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard"})
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, path := range []string{"vcenter", "esxi"} {
		c := connect(t, l, path)
		if err := c.upload("dir/"+path, body); err != nil {
			t.Fatal(err)
		}
		if got, err := c.download("dir/" + path); err != nil || got != string(body) {
			t.Errorf("%s: %d bytes come back, %v", path, len(got), err)
		}
	}
	st := l.State()
	if n := st.Requests.Bytes["vcenter"] + st.Requests.Bytes["esxi"]; n != int64(2*len(body)) {
		t.Errorf("%d bytes are counted", n)
	}
	if n := strings.Count(strings.Join(st.Requests.Calls, " "), "PUT /folder"); n != 2 {
		t.Errorf("%d uploads are counted", n)
	}

	c := connect(t, l, "esxi")
	if err := l.Arm(Fault{Fault: "upload-broken", Bytes: 100_000}); err != nil {
		t.Fatal(err)
	}
	if err := c.upload("dir/broken", body); err == nil {
		t.Error("a broken upload succeeds")
	}
	deadline := time.Now().Add(patience)
	for {
		var size int64
		for _, f := range l.State().Files {
			if f.Path == "[datastore1] dir/broken" {
				size = f.Size
			}
		}
		if size == 100_000 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a broken upload leaves %d bytes", size)
		}
		time.Sleep(time.Millisecond)
	}
	if err := l.Arm(Fault{Fault: "drop", Call: 1, Method: "PUT /folder"}); err != nil {
		t.Fatal(err)
	}
	if err := c.upload("dir/dropped", body); err == nil {
		t.Error("a dropped upload succeeds")
	}
	for _, f := range l.State().Files {
		if f.Path == "[datastore1] dir/dropped" {
			t.Error("an upload that was cut before it was carried out left a file")
		}
	}

	// Strangers get nothing.
	e := l.Hosts()[0]
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path, u.RawQuery = "/folder/dir/esxi", "dsName=datastore1"
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	insecure := soap.NewClient(u, true)
	for _, password := range []string{"", "wrong", e.Password} {
		r := req.Clone(req.Context())
		if password != "" {
			r.SetBasicAuth(e.User, password)
		}
		res, err := insecure.DefaultTransport().RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if want := password == e.Password; (res.StatusCode == http.StatusOK) != want {
			t.Errorf("with password %t: %s", want, res.Status)
		}
	}
}

func TestAFolderIsDestroyedWithEverythingInIt(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard"})
	c, direct := connect(t, l, "vcenter"), connect(t, l, "esxi")
	folder, err := c.vmFolder().CreateFolder(within(t), "t1")
	if err != nil {
		t.Fatal(err)
	}
	pool := c.pool("t1")
	v := c.create2(folder, pool, applianceSpec("t1", nil, nil))
	auth := object.NewAuthorizationManager(c.Client)
	if err := auth.DisableMethods(within(t), []types.ManagedObjectReference{v.Reference()}, []object.DisabledMethodRequest{{Method: "Destroy_Task", Reason: "VCH"}}, "VIC"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Destroy(within(t)); !fault.Is(err, &types.MethodDisabled{}) {
		t.Errorf("destroying a VM whose destruction is disabled: %v", err)
	}
	if task, err := folder.Destroy(within(t)); err != nil || !fault.Is(task.Wait(within(t)), &types.MethodDisabled{}) {
		t.Errorf("destroying the folder of such a VM: %v", err)
	}
	if err := auth.EnableMethods(within(t), []types.ManagedObjectReference{v.Reference()}, []string{"Destroy_Task"}, "VIC"); err != nil {
		t.Fatal(err)
	}
	task, err := folder.Destroy(within(t))
	if err == nil {
		err = task.Wait(within(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := direct.finder().VirtualMachine(within(t), "t1"); err == nil {
		t.Error("the VM outlives its folder")
	}
}

func TestTheFirewallIsOneOnBothPaths(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	open := func(c *client) bool {
		fs, err := c.host1().ConfigManager().FirewallSystem(within(t))
		if err != nil {
			t.Fatal(err)
		}
		info, err := fs.Info(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range info.Ruleset {
			if r.Key == vspcRules {
				return r.Enabled
			}
		}
		t.Fatal("there is no rule set vSPC")
		return false
	}
	c, direct := connect(t, l, "vcenter"), connect(t, l, "esxi")
	if !open(c) || !open(direct) {
		t.Error("the rule set is off at the start")
	}
	fs, err := c.host1().ConfigManager().FirewallSystem(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.DisableRuleset(within(t), vspcRules); err != nil {
		t.Fatal(err)
	}
	if open(c) || open(direct) {
		t.Error("it is still on")
	}
}
