package vch

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Entry is one VCH of a list.
type Entry struct {
	Name          string    `json:"name"`
	ID            string    `json:"id"`     // managed object id, which vic-machine takes as --id
	Marker        string    `json:"marker"` // match, moved or creating
	VersionString string    `json:"versionString"`
	Power         string    `json:"power"`      // on or off
	IP            string    `json:"ip"`         // client side; "" is none yet
	DockerHost    string    `json:"dockerHost"` // tcp://IP:PORT
	Containers    int       `json:"containers"`
	Expires       time.Time `json:"expires,omitzero"`

	ref Ref
}

// markerOf returns whether the keys make a machine a VCH: its id is its own
// (match), another machine's, after a copy or a new registration (moved), or
// not known yet (creating). It is "" for everything else.
func markerOf(m Machine) string {
	for _, k := range markerKeys {
		switch id := m.Keys[k]; {
		case id == "":
		case id == creating:
			return "creating"
		case id == markerFor(m.Ref.Value):
			return "match"
		case strings.HasPrefix(id, "VirtualMachine:") || strings.HasPrefix(id, "VirtualMachine-"):
			return "moved"
		}
	}
	return ""
}

// either returns a key in the form of 1.5 or of 0.4.
func (k Keys) either(modernKey string) string {
	v := k[modernKey]
	if v == "" {
		if rest, ok := strings.CutPrefix(modernKey, readPrefix); ok {
			v = k[oldReadPrefix+rest]
		} else if rest, ok := strings.CutPrefix(modernKey, writePrefix); ok {
			v = k[oldWritePrefix+rest]
		}
	}
	if v == nothing {
		return ""
	}
	return v
}

// assignedIP returns the address that the appliance reported for its client
// side.
func assignedIP(k Keys) string {
	b, err := base64.StdEncoding.DecodeString(k.either(writePrefix + "init.networks|client.assigned.IP"))
	if err != nil || len(b) != net.IPv4len && len(b) != net.IPv6len || net.IP(b).IsUnspecified() {
		return ""
	}
	return net.IP(b).String()
}

// dockerPort reads the port from the Docker endpoint's command line.
func dockerPort(k Keys) int {
	for _, arg := range strings.Split(k.either(readPrefix+"init/sessions|docker-personality/cmd/Args~"), listSeparator) {
		if s, ok := strings.CutPrefix(arg, "-port="); ok {
			if n, err := strconv.Atoi(s); err == nil {
				return n
			}
		}
	}
	return TLSServer.port()
}

func dockerHost(ip string, port int) string {
	if ip == "" {
		return ""
	}
	return "tcp://" + net.JoinHostPort(ip, strconv.Itoa(port))
}

func newEntry(m Machine) Entry {
	e := Entry{Name: m.Name, ID: m.Ref.Value, Marker: markerOf(m), Power: "off", IP: assignedIP(m.Keys), ref: m.Ref}
	if m.On {
		e.Power = "on"
	}
	v := Version{Version: m.Keys.either(readPrefix + "init/version/Version"), BuildNumber: m.Keys.either(readPrefix + "init/version/BuildNumber"), GitCommit: m.Keys.either(readPrefix + "init/version/GitCommit")}
	e.VersionString = v.String()
	e.DockerHost = dockerHost(e.IP, dockerPort(m.Keys))
	e.Expires, _ = time.Parse(time.RFC3339, m.Keys[keyExpires])
	return e
}

// entries returns the VCHs among machines, sorted by name.
func entries(machines []Machine) []Entry {
	var out []Entry
	for _, m := range machines {
		if markerOf(m) == "" {
			continue
		}
		e := newEntry(m)
		for _, c := range machines {
			if belongs(c, m, machines) && isContainer(c) {
				e.Containers++
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

// belongs reports whether c lies where the VCH m keeps its containers: in its
// folder on vCenter, else in its pool. A place that several VCHs share tells
// nothing.
func belongs(c, m Machine, machines []Machine) bool {
	if c.Ref == m.Ref || c.Pool != m.Pool {
		return false
	}
	shared := func(same func(Machine) bool) bool {
		return slices.ContainsFunc(machines, func(o Machine) bool { return o.Ref != m.Ref && markerOf(o) != "" && same(o) })
	}
	if !shared(func(o Machine) bool { return o.Pool == m.Pool }) {
		return true
	}
	return c.Parent == m.Parent && !shared(func(o Machine) bool { return o.Parent == m.Parent })
}

// isContainer reports that a machine's own keys prove it to be a container VM:
// a container id and VIC's version at the root. Those of 0.4 have no version;
// there the machine carries the id as its name, and an image.
func isContainer(m Machine) bool {
	if markerOf(m) != "" {
		return false
	}
	if m.Keys[readPrefix+"version/Version"] != "" && m.Keys[readPrefix+"common/id"] != "" {
		return true
	}
	return isID(m.Name) && m.Keys[oldReadPrefix+"repo"] != "" && m.Keys[oldReadPrefix+"common/name"] != ""
}

// isID reports a container id: 64 hex digits.
func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// List returns the VCHs of an inventory, in one API call whatever its size.
func List(ctx context.Context, c *esxi.Client) ([]Entry, error) {
	machines, err := readMachines(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("list the VCHs: %w", err)
	}
	return entries(machines), nil
}

func readMachines(ctx context.Context, c *esxi.Client) ([]Machine, error) {
	read := func(p types.PropertySpec) ([]types.ObjectContent, error) {
		return retrieve(ctx, c, types.PropertyFilterSpec{
			PropSet:   []types.PropertySpec{p},
			ObjectSet: []types.ObjectSpec{{Obj: c.Vim.ServiceContent.RootFolder, Skip: types.NewBool(true), SelectSet: machinesOnly()}},
		})
	}
	spec := machineProps(listKeys)
	objects, err := read(spec)
	if faultOf(err) == "InvalidProperty" {
		// A server that cannot pick single keys sends all of them.
		spec.PathSet = append(slices.DeleteFunc(spec.PathSet, func(s string) bool { return strings.HasPrefix(s, "config.extraConfig") }), "config.extraConfig")
		objects, err = read(spec)
	}
	if err != nil {
		return nil, err
	}
	return machines(objects), nil
}

func machines(objects []types.ObjectContent) []Machine {
	var out []Machine
	seen := map[Ref]bool{}
	for _, o := range objects {
		if o.Obj.Type != "VirtualMachine" || seen[o.Obj] {
			continue
		}
		seen[o.Obj] = true
		p := properties{}
		for _, prop := range o.PropSet {
			p[prop.Name] = prop.Val
		}
		out = append(out, p.machine(o.Obj))
	}
	return out
}
