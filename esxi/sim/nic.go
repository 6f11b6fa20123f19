package sim

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// firstNIC is the device key of a VM's first Ethernet card; the others follow.
const firstNIC = 4000

// isNIC tells whether a device change is about an Ethernet card.
func isNIC(c types.BaseVirtualDeviceConfigSpec) bool {
	_, ok := c.GetVirtualDeviceConfigSpec().Device.(types.BaseVirtualEthernetCard)
	return ok
}

// rewire evaluates the Ethernet card changes of a ReconfigVM or CreateVM call, all or nothing.
func (w *world) rewire(id string, changes []types.BaseVirtualDeviceConfigSpec, direct bool) (*world, error) {
	n := w.clone()
	v := n.editVM(id)
	if v == nil {
		return nil, notFound("there is no VM %s", id)
	}
	if v.template {
		return nil, notSupported("%s is a template: convert it to a VM first", v.name)
	}
	for i, c := range changes {
		spec := c.GetVirtualDeviceConfigSpec()
		device := types.InvalidDeviceSpec{DeviceIndex: int32(i)}
		card, ok := spec.Device.(types.BaseVirtualEthernetCard)
		if !ok {
			return nil, refuse(&device, "device change %d is not about an Ethernet card", i)
		}
		key := card.GetVirtualEthernetCard().Key
		at := slices.IndexFunc(v.nics, func(n nic) bool { return n.key == key })
		switch spec.Operation {
		case types.VirtualDeviceConfigSpecOperationAdd:
			fresh := nic{key: v.freeNIC(), device: spec.Device, home: anyVLAN,
				connect: types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: v.on}}
			fresh.label = fmt.Sprintf("Network adapter %d", fresh.key-firstNIC+1)
			fresh.mac = macFor(fmt.Sprint(v.id, fresh.key))
			if spec.Device.GetVirtualDevice().Backing == nil {
				return nil, refuse(&device, "a new Ethernet card needs a network")
			}
			if err := n.respecNIC(v, &fresh, card, i, direct); err != nil {
				return nil, err
			}
			v.nics = append(v.nics, fresh)
		case types.VirtualDeviceConfigSpecOperationEdit:
			if at < 0 {
				return nil, refuse(&device, "%s has no Ethernet card with key %d", v.name, key)
			}
			if err := n.respecNIC(v, &v.nics[at], card, i, direct); err != nil {
				return nil, err
			}
		case types.VirtualDeviceConfigSpecOperationRemove:
			if at < 0 {
				return nil, refuse(&device, "%s has no Ethernet card with key %d", v.name, key)
			}
			v.nics = slices.Delete(v.nics, at, at+1)
		default:
			return nil, refuse(&device, "%q is not a device operation", spec.Operation)
		}
	}
	n.sweep()
	return n, nil
}

func (v *vm) freeNIC() int32 {
	for key := int32(firstNIC); ; key++ {
		if !slices.ContainsFunc(v.nics, func(n nic) bool { return n.key == key }) {
			return key
		}
	}
}

// respecNIC changes a card; what the specification leaves unset stays, the MAC address above all.
func (w *world) respecNIC(v *vm, n *nic, card types.BaseVirtualEthernetCard, index int, direct bool) error {
	spec := card.GetVirtualEthernetCard()
	if spec.MacAddress != "" {
		n.mac = spec.MacAddress
	}
	if spec.Connectable != nil {
		n.connect = *spec.Connectable
	}
	badBacking := &types.InvalidDeviceBacking{InvalidDeviceSpec: types.InvalidDeviceSpec{DeviceIndex: int32(index)}}
	switch b := spec.Backing.(type) {
	case nil:
	case *types.VirtualEthernetCardNetworkBackingInfo:
		if w.host(v.host).group(b.DeviceName) == nil {
			return refuse(badBacking, "%s has no port group %q for VM %s", v.host, b.DeviceName, v.name)
		}
		n.attach = attachment{group: b.DeviceName}
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		same := n.attach.dvs == b.Port.SwitchUuid && n.attach.dvGroup == b.Port.PortgroupKey &&
			(b.Port.PortKey == "" || b.Port.PortKey == n.attach.port)
		if same {
			break
		}
		n.attach = attachment{}
		at, err := w.plug(v.host, &b.Port, direct)
		if err != nil {
			return err
		}
		n.attach = at
	default:
		return refuse(badBacking, "%T: a card is backed by a standard or a distributed port group", b)
	}
	return nil
}

// card renders a card as the API shows it. network is the moref of the standard port group's network, if it has one.
func (n *nic) card(network *types.ManagedObjectReference, label string) types.BaseVirtualDevice {
	v := reflect.New(reflect.TypeOf(n.device).Elem())
	v.Elem().Set(reflect.ValueOf(n.device).Elem())
	dev := v.Interface().(types.BaseVirtualDevice)
	c := dev.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	connect := n.connect
	connect.Status = string(types.VirtualDeviceConnectInfoStatusOk)
	summary := label
	if n.attach.dvs != "" {
		summary = "DVSwitch: " + n.attach.dvs
		c.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: *connection(n.attach)}
	} else {
		c.Backing = &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{
				DeviceName: n.attach.group, UseAutoDetect: types.NewBool(false),
			},
			Network: network,
		}
	}
	c.Key = n.key
	c.DeviceInfo = &types.Description{Label: n.label, Summary: summary}
	c.Connectable = &connect
	c.ControllerKey = 100 // PCI controller 0
	c.UnitNumber = types.NewInt32(7 + n.key - firstNIC)
	c.MacAddress = n.mac
	if c.AddressType == "" {
		c.AddressType = string(types.VirtualEthernetCardMacTypeAssigned)
	}
	if c.WakeOnLanEnabled == nil {
		c.WakeOnLanEnabled = types.NewBool(true)
	}
	return dev
}
