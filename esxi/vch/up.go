package vch

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Event is something to tell while a VCH comes or goes.
type Event struct {
	VCH   string `json:"vch"`
	Kind  string `json:"event"` // finding, step, upload, address, component, waiting, removed or left
	Text  string `json:"text,omitempty"`
	Part  string `json:"part,omitempty"`  // address: the role; component: its name
	Done  int64  `json:"done,omitempty"`  // upload: bytes
	Total int64  `json:"total,omitempty"` // upload: bytes
	Ms    int64  `json:"ms,omitempty"`    // upload: milliseconds since it began
}

// Options say how an installation is run.
type Options struct {
	On      func(Event)   // told of everything, one event at a time; may be nil
	Keep    bool          // leave what was made when it fails
	Upload  time.Duration // longest upload; 0 is 30 minutes, as vic-machine allows
	Address time.Duration // longest wait for an address after power-on; 0 is 2 minutes
	Ready   time.Duration // longest wait for everything after power-on; 0 is 3 minutes
}

func (o *Options) uploadTimeout() time.Duration {
	if o.Upload > 0 {
		return o.Upload
	}
	return 30 * time.Minute
}

func (o *Options) readyTimeout() time.Duration {
	if o.Ready > 0 {
		return o.Ready
	}
	return 3 * time.Minute
}

func (o *Options) addressTimeout() time.Duration {
	if o.Address > 0 {
		return min(o.Address, o.readyTimeout())
	}
	return min(2*time.Minute, o.readyTimeout())
}

// Job is one VCH to make, and where its files go on this machine.
type Job struct {
	Spec    *Spec
	CertDir string   // folder of its own for the certificates
	Journal *Journal // may be nil
}

// Instance is a VCH that is up.
type Instance struct {
	Name        string    `json:"name"`
	ID          string    `json:"id"`
	IP          string    `json:"ip"`
	DockerHost  string    `json:"dockerHost"`
	Admin       string    `json:"admin"` // vicadmin's page
	Bundle      string    `json:"versionString"`
	TLS         TLS       `json:"tls"`
	CertDir     string    `json:"certDir,omitempty"`    // with TLS: what DOCKER_CERT_PATH takes
	VerifiedAs  string    `json:"verifiedAs,omitempty"` // name in the certificate, where clients verify it and it is no address
	CertsUntil  time.Time `json:"certsUntil,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	BridgeRange string    `json:"bridgeRange"`
}

// Outcome is what came of one job: an instance, or an *UpError.
type Outcome struct {
	Name     string
	Instance *Instance
	Err      error
}

// UpError says why a VCH did not come up, and what is left of it. Nothing is
// left unless clean-up failed or was not wanted.
type UpError struct {
	Name string
	Step string // what was being done
	Err  error
	Kept bool
	Left []string
	Log  string // path of the appliance's log on this machine, where there is one
}

func (e *UpError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Name, e.Step, e.Err) }
func (e *UpError) Unwrap() error { return e.Err }

// Up makes VCHs, side by side. It checks everything first: a finding against
// one of them is an *InvalidError and nothing is made of any. After that each
// has an outcome of its own.
func Up(ctx context.Context, c *esxi.Client, jobs []Job, o Options) ([]Outcome, error) {
	site, err := ReadSite(ctx, c, true)
	if err != nil {
		return nil, err
	}
	plans := make([]*Plan, len(jobs))
	for i, j := range jobs {
		plans[i] = NewPlan(site, j.Spec)
	}
	checkUser(ctx, c, plans)
	findings, bad := gather(plans)
	if bad {
		return nil, &InvalidError{findings}
	}
	out := make([]Outcome, len(jobs))
	var events sync.Mutex
	tell := func(e Event) {
		events.Lock()
		defer events.Unlock()
		if o.On != nil {
			o.On(e)
		}
	}
	for _, f := range findings {
		tell(Event{Kind: "finding", Text: f.Text})
	}
	if err := prepare(ctx, c, plans); err != nil {
		return nil, err
	}
	shared := &shared{images: map[string]*images{}, bridges: map[string]bool{}, folders: map[string]bool{}}
	var wg sync.WaitGroup
	for i, j := range jobs {
		r := &upRun{c: c, p: plans[i], o: &o, job: j, shared: shared, tell: tell}
		wg.Go(func() {
			out[i].Name = j.Spec.Name
			out[i].Instance, out[i].Err = r.run(ctx)
		})
	}
	wg.Wait()
	return out, nil
}

// checkUser finds out whether the user made for the appliance can log in, which
// the appliance would only say after its boot. The VCHs of a run share it.
func checkUser(ctx context.Context, c *esxi.Client, plans []*Plan) {
	s := plans[0].spec
	if s.OwnUser {
		return
	}
	if err := c.TryLogin(ctx, s.User, s.Password); err != nil {
		plans[0].refuse("ops-login", "the appliance could not log in as %s: %v", s.User, err)
	}
}

// gather joins what was found for several VCHs; what holds for all is said
// once.
func gather(plans []*Plan) (all []Finding, bad bool) {
	names := map[string]bool{}
	bridges := map[string]string{} // the first of the run on each
	for _, p := range plans {
		b := p.spec.network(Bridge).Network
		if first, ok := bridges[b]; !ok {
			bridges[b] = p.Name
		} else if !names[p.Name] {
			p.sharesBridge(first)
		}
		if names[p.Name] {
			p.refuse("name-twice", "two VCHs are to be called %s", p.Name)
		}
		names[p.Name] = true
		for _, f := range p.Findings {
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
			bad = bad || !f.Warning
		}
	}
	return all, bad
}

// prepare makes the changes that are not a VCH's own and stay.
func prepare(ctx context.Context, c *esxi.Client, plans []*Plan) error {
	done := map[firewallFix]bool{}
	for _, p := range plans {
		for _, f := range p.firewall {
			if done[f] {
				continue
			}
			done[f] = true
			if _, err := methods.EnableRuleset(ctx, c.Vim, &types.EnableRuleset{This: f.system, Id: f.id}); err != nil {
				return fmt.Errorf("enable the firewall rule set %s on %s: %w", f.id, f.host, err)
			}
		}
	}
	s := plans[0].site
	if s.SerialPersisted != nil && !*s.SerialPersisted && c.Vim.ServiceContent.Setting != nil {
		_, err := methods.UpdateOptions(ctx, c.Vim, &types.UpdateOptions{This: *c.Vim.ServiceContent.Setting,
			ChangedValue: []types.BaseOptionValue{&types.OptionValue{Key: optionSerial, Value: "true"}}})
		if err != nil {
			return fmt.Errorf("set vCenter's option %s: %w", optionSerial, err)
		}
	}
	return nil
}

// shared is what the VCHs of one run have in common.
type shared struct {
	mu      sync.Mutex
	images  map[string]*images // by datastore
	bridges map[string]bool    // made by this run
	folders map[string]bool    // the same, on datastores

	keyMaking sync.Mutex
	key       *rsa.PrivateKey // of the servers that no client verifies
}

func (s *shared) imagesOn(datastore string) *images {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.images[datastore] == nil {
		s.images[datastore] = &images{}
	}
	return s.images[datastore]
}

// certificates makes what a VCH needs. Where no client checks whom it talks to,
// the VCHs of a run share the key: each holds the password to all of them
// anyway, and keys are what takes longest to make.
func (s *shared) certificates(r CertRequest) (*Certificates, error) {
	if r.Mode != TLSServer {
		return NewCertificates(r)
	}
	s.keyMaking.Lock()
	defer s.keyMaking.Unlock()
	if s.key == nil {
		key, err := newKey(cmp.Or(r.KeyBits, defaultKeyBits))
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		s.key = key
	}
	r.key = s.key
	return NewCertificates(r)
}

// upRun is the making of one VCH.
type upRun struct {
	c      *esxi.Client
	p      *Plan
	o      *Options
	job    Job
	shared *shared
	tell   func(Event)

	at      made
	sk      *SecretKey
	objects []Object // made, or perhaps made
	doubt   []Object // of them, those whose making was not answered in time
	part    []Object // folders that another VCH of labctl made, and that this one uses too
	bridge  string   // port group that this run made
	now     string   // what is being done
	stored  bool     // certificates are on disk
	booted  bool     // power-on was asked for
}

func (r *upRun) on(e Event) {
	e.VCH = r.p.Name
	r.tell(e)
}

func (r *upRun) step(format string, args ...any) {
	r.now = fmt.Sprintf(format, args...)
	r.on(Event{Kind: "step", Text: r.now})
}

// change returns a context for a change on the server, and tells how long it
// takes, until done.
func (r *upRun) change(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := draining(ctx)
	what := r.now
	stop := beat(func(so time.Duration) { r.on(Event{Kind: "waiting", Text: fmt.Sprintf("%s, after %v", what, so)}) })
	return ctx, func() {
		cancel()
		stop()
	}
}

// make announces an object, makes it, and notes what it is. What the server
// refused was not made by this run, and what the journal has of an earlier one
// stays in it; after any other failure it may have been made.
func (r *upRun) make(ctx context.Context, o Object, call func(context.Context) (id string, err error)) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	ctx, done := r.change(ctx)
	defer done()
	earlier := slices.ContainsFunc(r.job.Journal.Pending(), o.same)
	if err := r.job.Journal.announce(o); err != nil {
		return err
	}
	r.objects = append(r.objects, o)
	id, err := call(ctx)
	if err != nil {
		var failed *taskError
		if refused(err) || errors.As(err, &failed) {
			r.objects = r.objects[:len(r.objects)-1]
			if earlier {
				return err
			}
			return errors.Join(err, r.job.Journal.forget(o))
		}
		if ctx.Err() != nil || silent(err) {
			r.doubt = append(r.doubt, o)
		}
		return err
	}
	o.ID = id
	r.objects[len(r.objects)-1] = o
	return r.job.Journal.record(o)
}

// run makes the VCH, or takes back what it made.
func (r *upRun) run(ctx context.Context) (*Instance, error) {
	in, err := r.build(ctx)
	if err == nil {
		return in, nil
	}
	fail := &UpError{Name: r.p.Name, Step: r.now, Err: err}
	// What is made has to go also after an interrupt.
	clean := context.WithoutCancel(ctx)
	if r.booted {
		fail.Log = r.saveLog(clean)
	}
	if r.o.Keep && len(r.objects) > 0 {
		fail.Kept = true
		for _, o := range r.objects {
			fail.Left = append(fail.Left, o.String())
		}
		return nil, fail
	}
	if len(r.objects) > 0 {
		r.on(Event{Kind: "step", Text: "take back what was made"})
		fail.Left = r.undo(clean)
	} else {
		r.job.Journal.settle()
	}
	if r.stored {
		if err := RemoveStored(r.job.CertDir); err != nil {
			fail.Left = append(fail.Left, "certificates in "+r.job.CertDir)
		}
	}
	return nil, fail
}

func (r *upRun) build(ctx context.Context) (*Instance, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if r.job.CertDir != "" {
		os.Remove(LogFile(r.job.CertDir)) // of an earlier try, where there was one
	}
	// Keys take a Raspberry Pi a second or more, and are needed late.
	type made struct {
		certs *Certificates
		err   error
	}
	ready := make(chan made, 1)
	go func() {
		certs, err := r.shared.certificates(r.p.spec.CertRequest(time.Now()))
		ready <- made{certs, err}
	}()
	r.sk = NewSecretKey()
	for _, do := range []func(context.Context) error{r.makePool, r.makeBridge, r.makeFolder, r.makeMachine, r.makeImages, r.makeStores} {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	r.step("make the certificates")
	done := <-ready
	if done.err != nil {
		return nil, done.err
	}
	certs := done.certs
	r.stored = true
	if err := certs.Store(r.job.CertDir); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := r.configure(ctx, certs); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	in, err := r.boot(ctx, certs)
	if err != nil {
		return nil, err
	}
	s := r.p.spec
	in.Name, in.ID, in.Bundle, in.TLS, in.Expires = s.Name, r.at.vm.Value, s.Bundle.Version.String(), s.tls(), s.Expires
	in.CertsUntil = certs.NotAfter
	if s.tls() != TLSNone {
		in.CertDir = r.job.CertDir
	}
	if s.tls() == TLSVerify && !s.certAddr().IsValid() {
		in.VerifiedAs = s.certName()
	}
	span := s.BridgeRange
	if !span.IsValid() {
		span = defaultBridgeRange
	}
	in.BridgeRange = span.String()
	return in, r.writeEnv(in)
}

// Env returns the variables that a docker client needs, in order.
func (in *Instance) Env() []string {
	out := []string{"DOCKER_HOST=" + in.DockerHost, "DOCKER_API_VERSION=" + DockerAPI}
	switch in.TLS {
	case TLSServer:
		out = append(out, "DOCKER_TLS=1", "DOCKER_CERT_PATH="+in.CertDir)
	case TLSVerify:
		out = append(out, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+in.CertDir, "COMPOSE_TLS_VERSION=TLSv1_2")
	}
	return out
}

// VerifiedHost is the endpoint by the name in its certificate: a client that
// verifies it cannot use the address, unless the certificate is made out to it.
func (in *Instance) VerifiedHost() string {
	if in.VerifiedAs == "" {
		return in.DockerHost
	}
	return dockerHost(in.VerifiedAs, in.TLS.port())
}

// DockerAPI is the version of Docker's API that VIC 1.5 speaks.
const DockerAPI = "1.25"

// EnvFile is where Up writes the variables.
func EnvFile(dir string) string { return filepath.Join(dir, filepath.Base(dir)+".env") }

func (r *upRun) writeEnv(in *Instance) error {
	r.now = "write the env file"
	if err := os.MkdirAll(r.job.CertDir, modeCertFolder); err != nil {
		return err
	}
	env := in.Env()
	env[0] = "DOCKER_HOST=" + in.VerifiedHost()
	return os.WriteFile(EnvFile(r.job.CertDir), []byte(strings.Join(env, "\n")+"\n"), 0o644)
}

func (r *upRun) makePool(ctx context.Context) error {
	p := r.p
	switch {
	case p.pool != nil:
		r.at.pool = p.pool.Ref
		r.adopt(Object{Kind: "pool", Name: p.Name, Parent: p.parentPool.Value, ID: p.pool.Ref.Value})
		return nil
	case !p.MakesPool:
		r.at.pool = p.parentPool
		return nil
	}
	r.step("create the resource pool")
	limit := func(n int64) types.ResourceAllocationInfo {
		if n == 0 {
			n = -1 // unlimited
		}
		return types.ResourceAllocationInfo{Reservation: types.NewInt64(0), ExpandableReservation: types.NewBool(true), Limit: types.NewInt64(n),
			Shares: &types.SharesInfo{Level: types.SharesLevelNormal}}
	}
	return r.make(ctx, Object{Kind: "pool", Name: p.Name, Parent: p.parentPool.Value}, func(ctx context.Context) (string, error) {
		res, err := methods.CreateResourcePool(ctx, r.c.Vim, &types.CreateResourcePool{This: p.parentPool, Name: p.Name,
			Spec: types.ResourceConfigSpec{CpuAllocation: limit(p.spec.PoolCPUMHz), MemoryAllocation: limit(p.spec.PoolMemoryMB)}})
		if err != nil {
			return "", err
		}
		r.at.pool = res.Returnval
		return res.Returnval.Value, nil
	})
}

// adopt takes over what an earlier run of labctl left, and what nobody else
// claims: then this run owns it.
func (r *upRun) adopt(o Object) {
	if slices.ContainsFunc(r.job.Journal.Pending(), o.same) {
		r.objects = append(r.objects, o)
	}
}

// bridgeVLAN is the one that vic-machine gives a bridge it makes.
const bridgeVLAN = 1

func (r *upRun) makeBridge(ctx context.Context) error {
	p, name := r.p, r.p.spec.network(Bridge).Network
	if !p.MakesPortGroup {
		return nil
	}
	// Several VCHs of a run may share a bridge: one makes it.
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	if r.shared.bridges[name] {
		p.MakesPortGroup, p.MakesSwitch = false, false
		r.bridge = name
		return nil
	}
	r.step("create the bridge network %s", name)
	system := p.host.NetworkSystem
	if p.MakesSwitch {
		err := r.make(ctx, Object{Kind: "switch", Name: name, Parent: p.host.Ref.Value}, func(ctx context.Context) (string, error) {
			_, err := methods.AddVirtualSwitch(ctx, r.c.Vim, &types.AddVirtualSwitch{This: system, VswitchName: name, Spec: &types.HostVirtualSwitchSpec{NumPorts: 1024}})
			return "", err
		})
		if err != nil {
			return err
		}
	} else {
		r.adopt(Object{Kind: "switch", Name: name, Parent: p.host.Ref.Value})
	}
	err := r.make(ctx, Object{Kind: "portgroup", Name: name, Parent: p.host.Ref.Value}, func(ctx context.Context) (string, error) {
		_, err := methods.AddPortGroup(ctx, r.c.Vim, &types.AddPortGroup{This: system,
			Portgrp: types.HostPortGroupSpec{Name: name, VlanId: bridgeVLAN, VswitchName: name}})
		return "", err
	})
	if err == nil {
		r.bridge, r.shared.bridges[name] = name, true
	}
	return err
}

func (r *upRun) makeFolder(ctx context.Context) error {
	p := r.p
	o := Object{Kind: "folder", Name: p.Name, Parent: p.parent.Value}
	if !p.MakesFolder {
		if f := p.folder(); p.site.VCenter && f != (Ref{}) {
			p.parent, o.ID = f, f.Value
			r.adopt(o)
		}
		return nil
	}
	r.step("create the folder")
	return r.make(ctx, o, func(ctx context.Context) (string, error) {
		res, err := methods.CreateFolder(ctx, r.c.Vim, &types.CreateFolder{This: p.parent, Name: p.Name})
		if err != nil {
			return "", err
		}
		p.parent = res.Returnval
		return res.Returnval.Value, nil
	})
}

func (r *upRun) makeMachine(ctx context.Context) error {
	r.step("create the appliance")
	r.at.networks = map[string]Ref{}
	for name, n := range r.p.found {
		if n != nil {
			r.at.networks[name] = n.Ref
		}
	}
	// What is written now is what a removal goes by if nothing more comes.
	keys, err := r.keys(&Certificates{Mode: TLSNone})
	if err != nil {
		return err
	}
	o := Object{Kind: "vm", Name: r.p.Name, Parent: r.at.pool.Value}
	err = r.make(ctx, o, func(ctx context.Context) (string, error) {
		res, err := methods.CreateVM_Task(ctx, r.c.Vim, &types.CreateVM_Task{This: r.p.parent, Config: r.p.machine(keys), Pool: r.at.pool})
		if err != nil {
			return "", err
		}
		result, err := wait(ctx, r.c, res.Returnval)
		r.at.vm, _ = result.(Ref)
		if err == nil && r.at.vm.Value == "" {
			err = errors.New("the server does not say which machine it made")
		}
		return r.at.vm.Value, err
	})
	if err != nil {
		return err
	}
	return r.readMachine(ctx)
}

// keys returns all ExtraConfig of the machine as far as it is known.
func (r *upRun) keys(certs *Certificates) (Keys, error) {
	keys, err := EncodeKeys(r.p.config(r.at, certs), r.sk)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, o := range r.objects {
		if o.Kind != "vm" && o.Kind != "directory" && o.Kind != "parent" {
			done = append(done, o.Kind)
		}
	}
	for _, o := range r.part {
		if o.Kind != "parent" {
			done = append(done, o.Kind)
		}
	}
	for k, v := range r.p.marks(done, r.bridge, parents(r.objects, r.part)) {
		if v != "" {
			keys[k] = v
		}
	}
	keys[ovfEnv] = r.sk.text()
	keys["answer.msg.serial.file.open"] = "Append" // else a restart asks, and waits
	return keys, nil
}

// readMachine learns where the server put the machine, its devices, and the
// ids of its networks.
func (r *upRun) readMachine(ctx context.Context) error {
	objects, err := retrieve(ctx, r.c, types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{
			{Type: "VirtualMachine", PathSet: []string{"summary.config.vmPathName", "config.hardware.device"}},
			{Type: "Network", PathSet: []string{"name"}},
		},
		ObjectSet: []types.ObjectSpec{{Obj: r.at.vm, SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "VirtualMachine", Path: "network"},
		}}},
	})
	if err != nil {
		return fmt.Errorf("read the new machine: %w", err)
	}
	for _, o := range objects {
		for _, prop := range o.PropSet {
			switch v := prop.Val.(type) {
			case types.ArrayOfVirtualDevice:
				r.p.devices = v.VirtualDevice
			case string:
				if o.Obj == r.at.vm {
					_, r.at.folder = splitPath(v)
				} else if r.at.networks[v].Value == "" {
					r.at.networks[v] = o.Obj
				}
			}
		}
	}
	if r.at.folder == "" {
		return errors.New("read the new machine: the server does not say where its files are")
	}
	if bridge := r.p.spec.network(Bridge).Network; r.at.networks[bridge].Value == "" {
		return fmt.Errorf("read the new machine: it is not attached to %s", bridge)
	}
	dir := Object{Kind: "directory", Name: onStore(r.p.Datastore, r.at.folder), Parent: r.p.datacenter.Value}
	r.objects = append(r.objects, dir)
	return r.job.Journal.record(dir)
}

func (r *upRun) makeImages(ctx context.Context) error {
	r.step("bring the images to %s", onStore(r.p.Datastore, r.at.folder))
	return r.shared.imagesOn(r.p.Datastore).place(ctx, r)
}

func (r *upRun) configure(ctx context.Context, certs *Certificates) error {
	r.step("configure the appliance")
	keys, err := r.keys(certs)
	if err != nil {
		return err
	}
	ctx, done := r.change(ctx)
	defer done()
	res, err := methods.ReconfigVM_Task(ctx, r.c.Vim, &types.ReconfigVM_Task{This: r.at.vm, Spec: r.p.finish(r.at, r.p.devices, keys)})
	if err != nil {
		return err
	}
	_, err = wait(ctx, r.c, res.Returnval)
	return err
}

// saveLog keeps the appliance's log: its machine is about to go.
func (r *upRun) saveLog(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := readLog(ctx, r.c, r.p.Datacenter, r.p.Datastore, r.at.folder)
	if err != nil || len(text) == 0 || r.job.CertDir == "" {
		return ""
	}
	path := LogFile(r.job.CertDir)
	if os.MkdirAll(filepath.Dir(path), 0o700) != nil || os.WriteFile(path, text, 0o600) != nil {
		return ""
	}
	return path
}

// LogFile is where the log of a VCH that did not boot is kept, beside the
// folder of its certificates.
func LogFile(certDir string) string { return certDir + ".log" }
