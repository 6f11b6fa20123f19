package vch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// BootError says what an appliance that did not come up was waiting for, or
// what went wrong in it, in its own words.
type BootError struct {
	Component string // that failed; "" is the appliance as a whole
	Text      string
	State     []string // how far each part was
}

func (e *BootError) Error() string {
	text := e.Text
	if e.Component != "" {
		text = e.Component + " did not start: " + text
	}
	if len(e.State) > 0 {
		text += " (" + strings.Join(e.State, ", ") + ")"
	}
	return text
}

// components are the appliance's programs in the order in which they start.
var components = []string{"vicadmin", "docker-personality", "port-layer"}

// bootState is what the appliance has told so far.
type bootState struct {
	keys Keys
	on   bool
	was  bool // on, at some time
}

func (b *bootState) address(r Role) string {
	k := Keys{writePrefix + "init.networks|client.assigned.IP": b.keys[writePrefix+"init.networks|"+string(r)+".assigned.IP"]}
	return assignedIP(k)
}

// started returns what a component reported: "" is nothing yet.
func (b *bootState) started(name string) string {
	v := b.keys[writePrefix+"init.sessions|"+name+".started"]
	if v == nothing {
		return ""
	}
	return v
}

// ready reports whether everything that comes before the Docker endpoint is
// there.
func (b *bootState) ready() bool {
	return b.address(Client) != "" && !slices.ContainsFunc(components, func(c string) bool { return b.started(c) == "" })
}

// failure returns what ends the wait at once.
func (b *bootState) failure() error {
	for _, c := range components {
		if s := b.started(c); s != "" && s != "true" {
			return &BootError{Component: c, Text: s, State: b.summary()}
		}
	}
	if b.was && !b.on {
		return &BootError{Text: "the appliance powered itself off", State: b.summary()}
	}
	return nil
}

// summary says how far each part is.
func (b *bootState) summary() []string {
	var out []string
	for _, r := range outer {
		ip := b.address(r)
		if ip == "" {
			ip = "no address"
		}
		out = append(out, fmt.Sprintf("%s: %s", r, ip))
	}
	for _, c := range components {
		s := b.started(c)
		switch s {
		case "":
			s = "not started"
		case "true":
			s = "running"
		default:
			s = "failed"
		}
		out = append(out, c+": "+s)
	}
	return out
}

// boot powers the machine on and follows it until its Docker endpoint answers.
func (r *upRun) boot(ctx context.Context, certs *Certificates) (*Instance, error) {
	r.step("power on")
	task, err := r.powerOn(ctx)
	if err != nil {
		return nil, err
	}
	r.step("wait for the appliance")
	limit := r.o.readyTimeout()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	w := &watch{r: r, task: task, state: bootState{keys: Keys{}}, ready: make(chan string, 1)}
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	var ip string
	select {
	case ip = <-w.ready:
	case err := <-ended:
		return nil, w.explain(ctx, err, limit)
	}
	r.step("wait for the Docker endpoint")
	port := r.p.spec.tls().port()
	probed := make(chan error, 1)
	go func() { probed <- r.probe(ctx, dockerHost(ip, port), certs) }()
	select {
	case err = <-probed:
	case err = <-ended: // powered off meanwhile
	}
	if err != nil {
		cancel()
		return nil, w.explain(ctx, err, limit)
	}
	return &Instance{IP: ip, DockerHost: dockerHost(ip, port), Admin: fmt.Sprintf("https://%s:2378", ip)}, nil
}

var errSlow = errors.New("the time for it is over")

// explain turns the end of the wait into what a person can use.
func (w *watch) explain(ctx context.Context, err error, limit time.Duration) error {
	var boot *BootError
	switch {
	case errors.As(err, &boot):
		return err
	case context.Cause(ctx) == errSlow:
		w.locked(func() {
			text := fmt.Sprintf("not ready %v after power-on", limit)
			if w.state.ready() {
				text = fmt.Sprintf("the Docker endpoint did not answer within %v of power-on: %v", limit, err)
			}
			err = &BootError{Text: text, State: w.state.summary()}
		})
	}
	return err
}

// powerOn asks for power and returns the task that tells how it went. On
// vCenter DRS may choose the host, without waiting for anybody's approval.
func (r *upRun) powerOn(ctx context.Context) (Ref, error) {
	r.booted = true
	ctx, done := r.change(ctx)
	defer done()
	if !r.p.site.VCenter {
		res, err := methods.PowerOnVM_Task(ctx, r.c.Vim, &types.PowerOnVM_Task{This: r.at.vm})
		if err != nil {
			return Ref{}, err
		}
		return res.Returnval, nil
	}
	res, err := methods.PowerOnMultiVM_Task(ctx, r.c.Vim, &types.PowerOnMultiVM_Task{This: r.p.datacenter, Vm: []Ref{r.at.vm},
		Option: []types.BaseOptionValue{&types.OptionValue{Key: string(types.ClusterPowerOnVmOptionOverrideAutomationLevel), Value: string(types.DrsBehaviorFullyAutomated)}}})
	if err != nil {
		return Ref{}, err
	}
	result, err := wait(ctx, r.c, res.Returnval)
	if err != nil {
		return Ref{}, err
	}
	if on, ok := result.(types.ClusterPowerOnVmResult); ok {
		for _, n := range on.NotAttempted {
			name, text := esxi.FaultWords(&n.Fault)
			return Ref{}, &taskError{name, text}
		}
		for _, a := range on.Attempted {
			if a.Task != nil {
				return *a.Task, nil
			}
		}
	}
	return Ref{}, nil
}
