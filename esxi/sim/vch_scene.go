package sim

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/crypto/nacl/secretbox"
)

// goldenKeys are the keys of a default VCH on ESXi as vic-machine 1.5.8 wrote them, without secrets and without what
// the appliance adds. Object references and names of that host stand in them and are replaced.
//
//go:embed data/vch-1.5.8.json
var goldenKeys []byte

// vchBuilder makes a VCH on a host of the scene once the lab's endpoints are there.
type vchBuilder func(s *site, host string) error

// furnishVCHs makes the VCHs of the scene, and waits until those that boot have done so.
func (s *site) furnishVCHs() error {
	for _, h := range s.scene.hosts {
		for _, build := range s.builders {
			s.touched.Store(true)
			if err := build(s, h.name); err != nil {
				return fmt.Errorf("furnishing %s: %w", h.name, err)
			}
		}
	}
	s.mu.RLock()
	var booting []*appliance
	for _, a := range s.guests {
		booting = append(booting, a)
	}
	s.mu.RUnlock()
	for _, a := range booting {
		select {
		case <-a.booted:
		case <-a.life.Done():
		}
	}
	return nil
}

// ask has the host carry out a call as if a client had made it.
func ask(body soap.HasFault) error {
	if f := body.Fault(); f != nil {
		return &refusal{fault: methodFault(f), why: f.String}
	}
	return nil
}

// addBridge makes a switch without uplinks and a port group on it.
func (a *api) addBridge(sw, label string, vlan int32) error {
	ns := *a.hosts[a.host].ConfigManager.NetworkSystem
	if err := ask(a.AddVirtualSwitch(&types.AddVirtualSwitch{This: ns, VswitchName: sw, Spec: &types.HostVirtualSwitchSpec{NumPorts: 1024}})); err != nil {
		return err
	}
	return ask(a.AddPortGroup(&types.AddPortGroup{This: ns, Portgrp: types.HostPortGroupSpec{Name: label, VlanId: vlan, VswitchName: sw}}))
}

// addPool makes a resource pool below the host's.
func (a *api) addPool(name string) (types.ManagedObjectReference, error) {
	body := a.CreateResourcePool(&types.CreateResourcePool{This: a.rootPool(a.host), Name: name, Spec: types.DefaultResourceConfigSpec()})
	return taskRef(body), ask(body)
}

// reconfigure changes a VM and waits for it.
func (a *api) reconfigure(ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	body := a.ReconfigVMTask(&types.ReconfigVM_Task{This: ref, Spec: spec})
	if err := ask(body); err != nil {
		return err
	}
	_, err := a.task(body)
	return err
}

// putISO lays a boot image onto a datastore.
func (s *site) putISO(file, version string, size int) error {
	name, ok := s.onDisk(file)
	if !ok {
		return fmt.Errorf("%q is no datastore path", file)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, fakeISO(version, size), 0o600)
}

// options turns keys into the API's form, in order.
func options(keys map[string]string) []types.BaseOptionValue {
	var list []types.BaseOptionValue
	for k, v := range keys {
		list = append(list, &types.OptionValue{Key: k, Value: v})
	}
	slices.SortFunc(list, func(a, b types.BaseOptionValue) int {
		return strings.Compare(a.GetOptionValue().Key, b.GetOptionValue().Key)
	})
	return list
}

func addDevice(d types.BaseVirtualDevice) types.BaseVirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}
}

// netCard is a vmxnet3 adapter on a standard port group in a PCI slot.
func netCard(label string, key, slot int32) types.BaseVirtualDeviceConfigSpec {
	return addDevice(&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{VirtualDevice: types.VirtualDevice{
		Key: key, SlotInfo: &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: slot},
		Backing: &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: label}},
	}}}})
}

// cdrom is a drive with an image in it, on the first IDE controller that every VM has.
func cdrom(file string) types.BaseVirtualDeviceConfigSpec {
	return addDevice(&types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
		Key: -30, ControllerKey: 200, UnitNumber: types.NewInt32(0),
		Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true},
		Backing:     &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}},
	}})
}

// vicVCH makes a VCH as vic-machine 1.5.8 leaves it: pool, switch and port group of its own, images, and the keys of a
// default deployment; then it is powered on.
func vicVCH(name string) vchBuilder {
	return func(s *site, host string) error {
		a := s.direct[host].api
		e := s.lab.endpointOf(host)
		ds := s.datastoreOf(host)
		if err := a.addBridge(name, name, 1); err != nil {
			return err
		}
		pool, err := a.addPool(name)
		if err != nil {
			return err
		}
		ref, err := a.run(&types.CreateVM_Task{This: a.dc.VmFolder, Pool: pool, Config: types.VirtualMachineConfigSpec{
			Name: name, GuestId: "otherGuest64", AlternateGuestName: "Photon - VCH v1.5.8, 0, 2c978fe", NumCPUs: 1, MemoryMB: 2048,
			Files:        &types.VirtualMachineFileInfo{VmPathName: "[" + ds + "]"},
			DeviceChange: []types.BaseVirtualDeviceConfigSpec{netCard("VM Network", -40, 1184), netCard(name, -41, 1216)},
			ExtraConfig:  options(map[string]string{readOnly + "init/common/id": "CreatingVCH"}),
		}})
		if err != nil {
			return err
		}
		keys, err := vicKeys(name, ds, ref, pool, a.networks["VM Network"].Self, a.networks[name].Self)
		if err != nil {
			return err
		}
		target := "https://" + host + ".lab.local"
		keys[readOnly+"connect/target"], keys[readOnly+"connect/target_thumbprint"], keys[readOnly+"connect/username"] = target, e.sha1(), e.user
		env := readOnly + "init/sessions|port-layer/cmd/Env~"
		keys[env] = strings.Replace(keys[env], "https://127.0.0.1:8989", target, 1)
		if err := seal(keys, name, e.password); err != nil {
			return err
		}
		dir := fmt.Sprintf("[%s] %s/", ds, name)
		for image, size := range map[string]int{"appliance": 4 << 20, "bootstrap": 2 << 20} {
			if err := s.putISO(dir+bundleVersion+"-"+image+".iso", bundleVersion, size); err != nil {
				return err
			}
		}
		err = a.reconfigure(ref, types.VirtualMachineConfigSpec{
			ExtraConfig: options(keys),
			DeviceChange: []types.BaseVirtualDeviceConfigSpec{
				cdrom(dir + bundleVersion + "-appliance.iso"),
				addDevice(&types.VirtualSerialPort{YieldOnPoll: true, VirtualDevice: types.VirtualDevice{
					Key: -50, Backing: &types.VirtualSerialPortFileBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: dir + "tether.debug"}},
				}}),
			},
		})
		if err != nil {
			return err
		}
		_, err = a.run(&types.PowerOnVM_Task{This: ref})
		return err
	}
}

// vicKeys are the golden keys with this host's names and references.
func vicKeys(name, ds string, ref, pool, public, bridge types.ManagedObjectReference) (map[string]string, error) {
	keys := map[string]string{}
	if err := json.Unmarshal(goldenKeys, &keys); err != nil {
		return nil, fmt.Errorf("reading the golden keys: %w", err)
	}
	renames := strings.NewReplacer("LocalDS_0", ds, "vch1", name, "resgroup-11", pool.Value,
		"Network:HaNetwork-VM Network", public.String(), "Network:network-12", bridge.String(), "VirtualMachine:vm-14", ref.String())
	for k, v := range keys {
		keys[k] = renames.Replace(v)
	}
	return keys, nil
}

// seal gives keys a certificate of their own and a password, encrypted under a fresh key.
func seal(keys map[string]string, name, password string) error {
	var k [32]byte
	if _, err := rand.Read(k[:]); err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	keys[ovfEnvKey] = base64.StdEncoding.EncodeToString(k[:])
	pair, err := selfSigned(name)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	text := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	keys[readOnly+"cert/HostCertificate/Cert"] = text("CERTIFICATE", pair.Certificate[0])
	for path, value := range map[string]string{"connect/token": password, "cert/HostCertificate/Key": text("EC PRIVATE KEY", der)} {
		var nonce [24]byte
		if _, err := rand.Read(nonce[:]); err != nil {
			return fmt.Errorf("making a nonce: %w", err)
		}
		keys[readOnly+path+"@secret"] = base64.StdEncoding.EncodeToString(secretbox.Seal(nonce[:], []byte(value), &nonce, &k))
	}
	return nil
}

// The container of the first lab's VCH001, and where its VCH was.
const (
	oldContainer = "2cf7f483bf6e7f32daa53f51ca388d5fb153f78d3a74d313318099086638ad58"
	oldVCHIP     = "192.168.1.44"
)

// oldVCH makes the VCH of VIC 0.4 and its container as the first lab had them. Their keys have no "vice", and nothing
// of them is hidden. It does not boot: its API is of another time.
func oldVCH(s *site, host string) error {
	a := s.direct[host].api
	ds := s.datastoreOf(host)
	const name = "VCH001"
	if err := a.addBridge("vSwitch1", "VCH Bridge", 0); err != nil {
		return err
	}
	pool, err := a.addPool(name)
	if err != nil {
		return err
	}
	dir := fmt.Sprintf("[%s] %s/", ds, name)
	create := func(vm string, cards []types.BaseVirtualDeviceConfigSpec, more ...types.BaseVirtualDeviceConfigSpec) (types.ManagedObjectReference, error) {
		return a.run(&types.CreateVM_Task{This: a.dc.VmFolder, Pool: pool, Config: types.VirtualMachineConfigSpec{
			Name: vm, GuestId: "otherGuest64", NumCPUs: 1, MemoryMB: 2048, Files: &types.VirtualMachineFileInfo{VmPathName: "[" + ds + "]"},
			DeviceChange: append(cards, more...),
		}})
	}
	vch, err := create(name, []types.BaseVirtualDeviceConfigSpec{netCard("VM Network", -40, 192), netCard("VCH Bridge", -41, 224)}, cdrom(dir+"appliance.iso"))
	if err != nil {
		return err
	}
	for _, image := range []string{"appliance.iso", "bootstrap.iso"} {
		if err := s.putISO(dir+image, "0.4.0", 1<<20); err != nil {
			return err
		}
	}
	ip := base64.StdEncoding.EncodeToString([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 44})
	const p = "guestinfo./"
	keys := map[string]string{
		p + "init/common/id": vch.String(), p + "init/common/name": name, p + "init/networks": "bridge|client|external|management",
		p + "init/sessions": "docker-personality|port-layer|vicadmin", p + "storage/image_stores": "0",
		p + "storage/image_stores|0/Scheme": "ds", p + "storage/image_stores|0/Host": ds, p + "storage/image_stores|0/Path": name,
		p + "container/ComputeResources": "0", p + "container/ComputeResources|0/Type": pool.Type, p + "container/ComputeResources|0/Value": pool.Value,
		p + "container/bootstrap_image_path": dir + "bootstrap.iso", p + "network/bridge_network": "bridge", p + "create_bridge_network": "false",
		p + "init/version/Version": "0.4.0", p + "init/version/BuildNumber": "2500",
	}
	for role, n := range map[string]struct {
		slot string
		net  types.ManagedObjectReference
	}{
		"bridge": {"224", a.networks["VCH Bridge"].Self}, "client": {"192", a.networks["VM Network"].Self},
		"external": {"192", a.networks["VM Network"].Self}, "management": {"192", a.networks["VM Network"].Self},
	} {
		k := p + "init/networks|" + role
		keys[k+"/Common/id"], keys[k+"/Common/name"], keys[k+"/network/Common/id"], keys[k+"/network/Common/name"] = n.slot, role, n.net.String(), role
		if role != "bridge" {
			keys["guestinfo..init.networks|"+role+".assigned.IP"] = ip
		}
	}
	for _, c := range components {
		keys[p+"init/sessions|"+c.name+"/cmd/Path"] = c.path
		keys["guestinfo..init.sessions|"+c.name+".started"] = "true"
	}
	if err := a.reconfigure(vch, types.VirtualMachineConfigSpec{ExtraConfig: options(keys)}); err != nil {
		return err
	}

	disk := addDevice(&types.VirtualDisk{CapacityInKB: 8000000, VirtualDevice: types.VirtualDevice{
		Key: -20, ControllerKey: -10, UnitNumber: types.NewInt32(0),
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			DiskMode: string(types.VirtualDiskModePersistent), ThinProvisioned: types.NewBool(true),
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[" + ds + "]"},
		},
	}})
	disk.GetVirtualDeviceConfigSpec().FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
	box, err := create(oldContainer, []types.BaseVirtualDeviceConfigSpec{netCard("VCH Bridge", -40, 192)}, cdrom(dir+"bootstrap.iso"),
		addDevice(&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			SharedBus: types.VirtualSCSISharingNoSharing, VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -10}},
		}}), disk,
		addDevice(&types.VirtualSerialPort{YieldOnPoll: true, VirtualDevice: types.VirtualDevice{
			Key: -50, Backing: &types.VirtualSerialPortURIBackingInfo{VirtualDeviceURIBackingInfo: types.VirtualDeviceURIBackingInfo{
				ServiceURI: "tcp://" + oldVCHIP + ":8080", Direction: string(types.VirtualDeviceURIBackingOptionDirectionClient),
			}},
		}}))
	if err != nil {
		return err
	}
	sess := "sessions|" + oldContainer
	err = a.reconfigure(box, types.VirtualMachineConfigSpec{ExtraConfig: options(map[string]string{
		p + "common/id": oldContainer, p + "common/name": "jolly_panini", p + "repo": "hello-world", p + "sessions": oldContainer,
		p + sess + "/common/id": oldContainer, p + sess + "/common/name": "jolly_panini",
		p + sess + "/cmd/Path": "/hello",
		p + "version/Version":  "0.4.0", p + "version/BuildNumber": "2500", "guestinfo..sessions|" + oldContainer + ".started": "true",
	})})
	if err != nil {
		return err
	}
	if _, err := a.run(&types.PowerOnVM_Task{This: vch}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showAddress(a.ids[vch], oldVCHIP)
	return nil
}
