package sim

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
)

// labConfig is the part of labctl's configuration file that describes a lab.
type labConfig struct {
	Version int          `yaml:"version"`
	VCenter *server      `yaml:"vcenter,omitempty"`
	Hosts   []hostConfig `yaml:"hosts"`
	VCH     vchConfig    `yaml:"vch"`
}

type server struct {
	URL          string `yaml:"url,omitempty"`
	User         string `yaml:"user"`
	Thumbprint   string `yaml:"thumbprint,omitempty"`
	PasswordFile string `yaml:"password_file"`
}

type hostConfig struct {
	Name     string            `yaml:"name"`
	Server   server            `yaml:",inline"`
	Keyboard string            `yaml:"keyboard"`
	Layout   string            `yaml:"layout"`
	Network  *hostNetwork      `yaml:"network,omitempty"`
	Facts    map[string]string `yaml:"facts,omitempty"`
}

type hostNetwork struct {
	VMK         string      `yaml:"vmk"`
	Uplink      string      `yaml:"uplink"`
	Standard    switchNames `yaml:"standard"`
	Distributed switchNames `yaml:"distributed"`
}

type switchNames struct {
	Switch    string `yaml:"switch"`
	Portgroup string `yaml:"portgroup"`
}

type vchConfig struct {
	Bundle        string `yaml:"bundle"`
	Datastore     string `yaml:"datastore"`
	PublicNetwork string `yaml:"public_network"`
	BridgeNetwork string `yaml:"bridge_network,omitempty"` // the vCenter wants one that is there
	Target        string `yaml:"target"`
}

// WriteConfig writes a labctl.yaml for the lab that works as it is, and beside it one file per endpoint and nested host
// with its password, which only their owner may read. The facts of consoles are those of this moment. A nested host has
// a keyboard and no address.
func (l *Lab) WriteConfig(file string) error {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	base := filepath.Join(dir, filepath.Base(file))
	entry := func(e Endpoint) (server, error) {
		s := server{URL: e.URL, User: e.User, Thumbprint: e.Thumbprint, PasswordFile: base + "." + e.Name + ".password"}
		return s, writePrivate(s.PasswordFile, []byte(e.Password+"\n"))
	}
	c := labConfig{Version: 1}
	unmanaged := l.site.Load().unmanaged
	if !unmanaged {
		s, err := entry(l.VCenter())
		if err != nil {
			return err
		}
		c.VCenter = &s
	}
	for _, e := range l.Hosts() {
		s, err := entry(e)
		if err != nil {
			return err
		}
		c.Hosts = append(c.Hosts, hostConfig{
			Name: e.Name, Server: s, Keyboard: fmt.Sprintf("sim://%s/%s", l.ControlAddr(), e.Name), Layout: "us", Facts: l.facts(e.Name),
			Network: &hostNetwork{
				VMK: "vmk0", Uplink: "vmnic0",
				Standard:    switchNames{Switch: "vSwitch0", Portgroup: "Management Network"},
				Distributed: switchNames{Switch: dvsName, Portgroup: "DVS-Mgmt"},
			},
		})
	}
	for _, n := range l.Nested() {
		s, err := entry(Endpoint{Name: n.Name, User: "root", Password: n.Password})
		if err != nil {
			return err
		}
		c.Hosts = append(c.Hosts, hostConfig{
			Name: n.Name, Server: s, Keyboard: fmt.Sprintf("vm://%s/%s", n.Host, n.Name), Layout: "us", Facts: n.Facts,
		})
	}
	c.VCH = vchConfig{
		Bundle: base + ".bundle", Datastore: datastore, PublicNetwork: "VM Network", BridgeNetwork: bridgeGroup, Target: "https://" + everyName,
	}
	if unmanaged {
		c.VCH.BridgeNetwork = ""
	}
	if err := WriteBundle(c.VCH.Bundle); err != nil {
		return err
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return writePrivate(file, text)
}

// writePrivate writes a file for its owner only, also where a more open one stood.
func writePrivate(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the lab's configuration: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o600)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("writing the lab's configuration: %w", err)
	}
	return nil
}
