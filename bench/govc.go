package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The standard switch and its management port group, named as labctl names them.
const (
	vswitch   = "vSwitch0"
	mgmtGroup = "Management Network"
)

// beside is added to the names of the VMs' port groups that govc makes. Under their own names, which the distributed
// port groups bear already, vm.network.change answers that the path resolves to multiple networks. The other way out,
// managed object references, would need one more command to look them up.
const beside = " std"

// command is one govc process.
type command struct {
	args []string
	// May fail: labsim's hosts do not know the esxcli command. What govc sends until it learns that is counted.
	mayFail bool
}

func (c command) String() string { return "govc " + strings.Join(c.args, " ") }

// hostFlag is how a command names its host: -host NAME, as people write it, or by inventory path, which spares govc
// looking for the host.
type hostFlag []string

func byName(host string) hostFlag { return hostFlag{"-host", host} }
func byPath(host string) hostFlag {
	return hostFlag{"-host.ipath", "/Homelab/host/" + host + "/" + host}
}

// survey are the commands by which a user learns what there is to move.
func survey(s *state, at hostFlag) []command {
	on := func(args ...string) command {
		return command{args: append([]string{args[0]}, append(at, args[1:]...)...)}
	}
	esxcli := on("host.esxcli", "network", "vswitch", "dvs", "vmware", "list")
	esxcli.mayFail = true
	return []command{
		on("host.vnic.info"),
		on("host.vswitch.info"),
		on("host.portgroup.info"),
		{args: []string{"dvs.portgroup.info", s.DVS[0].Name}},
		esxcli,
	}
}

// prepare are the commands that build the standard switch with its port groups, still without an uplink.
func prepare(s *state, at hostFlag) []command {
	on := func(args ...string) command {
		return command{args: append([]string{args[0]}, append(at, args[1:]...)...)}
	}
	list := []command{
		on("host.vswitch.add", "-mtu", "1500", vswitch),
		on("host.portgroup.add", "-vswitch", vswitch, "-vlan", fmt.Sprint(s.Hosts[0].Management.VLAN), mgmtGroup),
	}
	for _, g := range s.DVS[0].Portgroups {
		if !s.Hosts[0].uses(g.Name) {
			continue
		}
		add := []string{"host.portgroup.add", "-vswitch", vswitch}
		if g.VLAN != 0 {
			add = append(add, "-vlan", fmt.Sprint(g.VLAN))
		}
		list = append(list, on(append(add, g.Name+beside)...))
	}
	return list
}

func (h *host) uses(group string) bool {
	for _, v := range h.VMs {
		for _, n := range v.NICs {
			if n.Portgroup == group {
				return true
			}
		}
	}
	return false
}

// edits are the commands that move the VMs, one network card at a time.
func edits(s *state) []command {
	var list []command
	for _, v := range s.Hosts[0].VMs {
		for i, n := range v.NICs {
			list = append(list, command{args: []string{"vm.network.change", "-vm", v.Name, "-net", n.Portgroup + beside, fmt.Sprintf("ethernet-%d", i)}})
		}
	}
	return list
}

// sequence is a migration as far as govc has commands for it. What is missing between prepare and edits, the uplink
// and vmk0 themselves, is a script run on the host; leaving the distributed switch is a matter for another tool.
func sequence(s *state, at hostFlag, skip map[string]bool) []command {
	var list []command
	look := command{args: slices.Concat([]string{"host.vswitch.info"}, at)}
	for _, c := range slices.Concat(survey(s, at), prepare(s, at), edits(s), []command{look}) {
		if !skip[c.args[0]] {
			list = append(list, c)
		}
	}
	return list
}

// govc runs commands one after the other, a process each, with a session kept on disk between them, and returns how
// many requests each of them sent and how long all of them took. Counting asks labsim, which is not timed.
func (l *lab) govc(ctx context.Context, list []command) (requests []int, took time.Duration, err error) {
	env, err := l.govcEnv()
	if err != nil {
		return nil, 0, err
	}
	s, err := l.state(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range list {
		r, err := l.bin.run(ctx, env, "govc", c.args...)
		if err != nil && (!c.mayFail || ctx.Err() != nil) {
			return nil, 0, err
		}
		took += r.took
		before := s.Requests.Total
		if s, err = l.state(ctx); err != nil {
			return nil, 0, err
		}
		requests = append(requests, s.Requests.Total-before)
	}
	return requests, took, nil
}

// govcEnv points govc at the lab. It does not check the certificate, which is the cheapest it can do.
func (l *lab) govcEnv() ([]string, error) {
	password, err := os.ReadFile(l.config + ".vcenter.password")
	if err != nil {
		return nil, fmt.Errorf("reading the lab's password: %w", err)
	}
	return environ(l.home, "GOVC_URL="+l.vcenter, "GOVC_USERNAME="+l.user, "GOVC_PASSWORD="+strings.TrimSpace(string(password)),
		"GOVC_INSECURE=true", "GOVC_PERSIST_SESSION=true", "GOVMOMI_HOME="+filepath.Join(l.home, "govmomi")), nil
}

// swap moves the uplink and vmk0, which govc cannot do.
func (l *lab) swap(ctx context.Context, s *state) error {
	env, err := l.govcEnv()
	if err != nil {
		return err
	}
	_, err = l.bin.run(ctx, env, "swap", s.Hosts[0].Name, vswitch, mgmtGroup)
	return err
}

// missing finds the commands of the survey that crash on what labsim shows, and why. labsim's distributed switch has
// the type that vcsim gives it, which host.vnic.info does not expect.
func (l *lab) missing(ctx context.Context) (skip map[string]bool, err error) {
	s, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	env, err := l.govcEnv()
	if err != nil {
		return nil, err
	}
	skip = map[string]bool{}
	for _, c := range survey(s, byName(s.Hosts[0].Name)) {
		r, err := l.bin.run(ctx, env, "govc", c.args...)
		switch {
		case err == nil:
		case strings.Contains(string(r.errs), "panic: "):
			skip[c.args[0]] = true
		case !c.mayFail:
			return nil, err
		}
	}
	return skip, nil
}
