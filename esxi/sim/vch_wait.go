package sim

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// vcsim answers a wait for updates by reading everything that a filter selects again for each change of whatever
// object. With the two hundred settings of a VCH that takes milliseconds each time, and ten clients that wait for ten
// VCHs do little else. Waits for settings are therefore answered here: what is waited for is read again when it has
// changed, and the properties that differ are told.

// changes notes which objects of an inventory have changed since when.
type changes struct {
	mo.ExtensibleManagedObject // vcsim wants one in everything it registers

	mu    sync.Mutex
	now   uint64
	at    map[types.ManagedObjectReference]uint64
	rings chan struct{} // closed and replaced at each change
}

func newChanges() *changes {
	c := &changes{at: map[types.ManagedObjectReference]uint64{}, rings: make(chan struct{})}
	c.Self = types.ManagedObjectReference{Type: "LabsimChanges", Value: "changes"}
	return c
}

func (c *changes) note(ref types.ManagedObjectReference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.at[ref] = c.now
	close(c.rings)
	c.rings = make(chan struct{})
}

// PutObject, UpdateObject and RemoveObject are what vcsim tells of its objects.
func (c *changes) PutObject(_ *simulator.Context, o mo.Reference) { c.note(o.Reference()) }

func (c *changes) UpdateObject(_ *simulator.Context, o mo.Reference, _ []types.PropertyChange) {
	c.note(o.Reference())
}

func (c *changes) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) { c.note(ref) }

// watchKey names a property collector of a session.
type watchKey struct {
	session string
	ref     types.ManagedObjectReference
}

// watch is what a client that waits has been told so far.
type watch struct {
	cancel context.CancelFunc
	seen   uint64
	known  map[types.ManagedObjectReference]map[types.ManagedObjectReference]map[string]types.AnyType // filter → object → property
}

// gather is how long changes may come together before they are told; vcsim's own waits look that often.
const gather = 20 * time.Millisecond

// waitsHere says whether a call is a wait for settings, or the end of one.
func (a *api) waitsHere(ctx *simulator.Context, m *simulator.Method) bool {
	if m.This.Type != "PropertyCollector" || ctx.Session == nil {
		return false
	}
	switch m.Name {
	case "CancelWaitForUpdates":
		a.watchMu.Lock()
		defer a.watchMu.Unlock()
		return a.watches[watchKey{ctx.Session.Key, m.This}] != nil
	case "WaitForUpdatesEx":
		for _, f := range filters(ctx, m.This) {
			for _, p := range f.Spec.PropSet {
				if slices.ContainsFunc(p.PathSet, func(path string) bool { return strings.HasPrefix(path, "config.extraConfig") }) {
					return true
				}
			}
		}
	}
	return false
}

func filters(ctx *simulator.Context, ref types.ManagedObjectReference) []*simulator.PropertyFilter {
	pc, ok := ctx.Session.Get(ref).(*simulator.PropertyCollector)
	if !ok {
		return nil
	}
	var list []*simulator.PropertyFilter
	for _, r := range pc.Filter {
		if f, ok := ctx.Session.Get(r).(*simulator.PropertyFilter); ok {
			list = append(list, f)
		}
	}
	return list
}

func (a *api) CancelWaitForUpdates(ctx *simulator.Context, req *types.CancelWaitForUpdates) soap.HasFault {
	a.watchMu.Lock()
	defer a.watchMu.Unlock()
	if w := a.watches[watchKey{ctx.Session.Key, req.This}]; w != nil && w.cancel != nil {
		w.cancel()
	}
	return &methods.CancelWaitForUpdatesBody{Res: &types.CancelWaitForUpdatesResponse{}}
}

// WaitForUpdatesEx waits until a property that a client's filters select is another one than it was told.
func (a *api) WaitForUpdatesEx(ctx *simulator.Context, req *types.WaitForUpdatesEx) soap.HasFault {
	wait, cancel := context.WithCancel(a.site.life.Load().ctx)
	defer cancel()
	var timeout <-chan time.Time
	once := false
	if req.Options != nil && req.Options.MaxWaitSeconds != nil {
		once = *req.Options.MaxWaitSeconds == 0
		t := time.NewTimer(time.Duration(*req.Options.MaxWaitSeconds) * time.Second)
		defer t.Stop()
		timeout = t.C
	}
	key := watchKey{ctx.Session.Key, req.This}
	a.watchMu.Lock()
	w := a.watches[key]
	if w == nil || req.Version == "" {
		w = &watch{known: map[types.ManagedObjectReference]map[types.ManagedObjectReference]map[string]types.AnyType{}}
		a.watches[key] = w
	}
	w.cancel = cancel
	a.watchMu.Unlock()

	for {
		a.changes.mu.Lock()
		now, rings := a.changes.now, a.changes.rings
		due := w.seen == 0 || a.touches(ctx, w, req.This)
		a.changes.mu.Unlock()
		if due {
			a.site.mu.RLock()
			set, fault := a.news(ctx, w, req.This)
			a.site.mu.RUnlock()
			w.seen = max(now, 1)
			switch {
			case fault != nil:
				return &methods.WaitForUpdatesExBody{Fault_: fault}
			case len(set) > 0 || req.Version == "":
				return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{Returnval: &types.UpdateSet{Version: "-", FilterSet: set}}}
			}
		}
		if once {
			return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{}}
		}
		select {
		case <-rings:
			select {
			case <-time.After(gather):
			case <-wait.Done():
			}
		case <-timeout:
			return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{}}
		case <-wait.Done():
		}
		if wait.Err() != nil {
			return faulted(refuse(&types.RequestCanceled{}, "the wait was cancelled"))
		}
	}
}

// touches says whether something that is waited for may have changed: an object that is known, or any if objects are
// found by going from one to another. The lock of the changes is held.
func (a *api) touches(ctx *simulator.Context, w *watch, pc types.ManagedObjectReference) bool {
	for _, f := range filters(ctx, pc) {
		for _, o := range f.Spec.ObjectSet {
			if len(o.SelectSet) > 0 && a.changes.now > w.seen || a.changes.at[o.Obj] > w.seen {
				return true
			}
		}
		if w.known[f.Self] == nil {
			return true
		}
	}
	return false
}

// news reads what is waited for and tells how it differs from what was told. The site's lock is held for reading.
func (a *api) news(ctx *simulator.Context, w *watch, ref types.ManagedObjectReference) ([]types.PropertyFilterUpdate, *soap.Fault) {
	pc, ok := ctx.Session.Get(ref).(*simulator.PropertyCollector)
	if !ok {
		return nil, soapFault(refuse(&types.ManagedObjectNotFound{Obj: ref}, "there is no such collector"))
	}
	var set []types.PropertyFilterUpdate
	for _, f := range filters(ctx, ref) {
		known := w.known[f.Self]
		if known == nil {
			known = map[types.ManagedObjectReference]map[string]types.AnyType{}
			w.known[f.Self] = known
		}
		spec := f.Spec
		if len(known) > 0 { // an object that has gone is told, and is no fault any more
			spec.ReportMissingObjectsInResults = types.NewBool(true)
		}
		body := pc.RetrieveProperties(ctx, &types.RetrieveProperties{This: ref, SpecSet: []types.PropertyFilterSpec{spec}}).(*methods.RetrievePropertiesBody)
		if body.Fault() != nil {
			return nil, body.Fault()
		}
		update := types.PropertyFilterUpdate{Filter: f.Self}
		here := map[types.ManagedObjectReference]bool{}
		for _, o := range body.Res.Returnval {
			here[o.Obj] = true
			u := types.ObjectUpdate{Obj: o.Obj, Kind: types.ObjectUpdateKindModify}
			if known[o.Obj] == nil {
				known[o.Obj], u.Kind = map[string]types.AnyType{}, types.ObjectUpdateKindEnter
			}
			for _, p := range o.PropSet {
				if old, ok := known[o.Obj][p.Name]; ok && reflect.DeepEqual(old, p.Val) {
					continue
				}
				known[o.Obj][p.Name] = p.Val
				u.ChangeSet = append(u.ChangeSet, types.PropertyChange{Name: p.Name, Op: types.PropertyChangeOpAssign, Val: p.Val})
			}
			if u.Kind == types.ObjectUpdateKindEnter || len(u.ChangeSet) > 0 {
				update.ObjectSet = append(update.ObjectSet, u)
			}
		}
		for obj := range known {
			if !here[obj] {
				delete(known, obj)
				update.ObjectSet = append(update.ObjectSet, types.ObjectUpdate{Obj: obj, Kind: types.ObjectUpdateKindLeave})
			}
		}
		if len(update.ObjectSet) > 0 {
			set = append(set, update)
		}
	}
	return set, nil
}
