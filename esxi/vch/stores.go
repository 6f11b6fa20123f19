package vch

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// VIC keeps images and volumes in folders of these names (vic:
// lib/portlayer/storage/vsphere). A volume store without a path is called
// storeRoot, and there volumes lie one level deeper, since images may lie there
// too.
const (
	storeRoot  = "VIC"
	volumesDir = "volumes"
	kvDir      = "kvStores"
)

// volumeFolder is where the volumes of a store lie.
func volumeFolder(store string) string {
	if store == "" || store == storeRoot {
		return path.Join(storeRoot, volumesDir)
	}
	return store
}

// makeStores makes the folders for volumes and images. One that is there
// already is somebody's, and stays when this run fails.
func (r *upRun) makeStores(ctx context.Context) error {
	var dirs []Object
	for _, v := range r.p.spec.Volumes {
		if v.NFS == nil {
			dirs = append(dirs, Object{Kind: "volume", Name: onStore(v.Datastore, volumeFolder(v.Path)), Parent: r.p.datacenter.Value})
		}
	}
	if r.p.spec.ImagePath != "" {
		dirs = append(dirs, Object{Kind: "images", Name: onStore(r.p.Datastore, r.p.spec.ImagePath), Parent: r.p.datacenter.Value})
	}
	if len(dirs) == 0 {
		return nil
	}
	// One VCH of a run after the other: the next one learns who made what.
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	for _, dir := range dirs {
		for _, o := range withParents(dir) {
			err := r.makeDirectory(ctx, o)
			switch {
			case err == nil:
				r.shared.folders[o.Name] = true
			case faultOf(err) != "FileAlreadyExists":
				return err
			case r.shared.folders[o.Name] || r.p.site.labctlMade(o):
				r.part = append(r.part, o)
			}
		}
	}
	return nil
}

// labctlMade reports whether a VCH's marks say that a folder was made for it.
func (s *Site) labctlMade(o Object) bool {
	return slices.ContainsFunc(s.Machines, func(m Machine) bool {
		switch o.Kind {
		case "parent":
			return slices.Contains(strings.Split(m.Keys[keyParents], listSeparator), o.Name)
		case "images":
			store, _ := splitPath(m.Path)
			return slices.Contains(strings.Fields(m.Keys[keyMade]), o.Kind) && onStore(store, m.imagePath()) == o.Name
		}
		return false
	})
}

// imagePath returns where a VCH keeps its images, below its datastore.
func (m Machine) imagePath() string {
	return strings.Trim(m.Keys.either(readPrefix+"storage/image_stores|0/Path"), "/")
}

// withParents returns a folder after those that it lies in. They are made one
// by one, so that it is known which of them were there.
func withParents(o Object) []Object {
	store, folder := splitPath(o.Name + "/x")
	parts := strings.Split(folder, "/")
	var out []Object
	for i := range len(parts) - 1 {
		out = append(out, Object{Kind: "parent", Name: onStore(store, parts[:i+1]...), Parent: o.Parent})
	}
	return append(out, o)
}

// parents returns the mark that names parents among objects.
func parents(lists ...[]Object) string {
	var names []string
	for _, o := range slices.Concat(lists...) {
		if o.Kind == "parent" && !strings.Contains(o.Name, listSeparator) {
			names = append(names, o.Name)
		}
	}
	return strings.Join(names, listSeparator)
}

func (r *upRun) makeDirectory(ctx context.Context, o Object) error {
	fm := r.c.Vim.ServiceContent.FileManager
	if fm == nil {
		return errors.New("the server has no file manager")
	}
	if slices.ContainsFunc(r.objects, o.same) {
		return nil
	}
	r.step("make the folder %s", o.Name)
	return r.make(ctx, o, func(ctx context.Context) (string, error) {
		_, err := methods.MakeDirectory(ctx, r.c.Vim, &types.MakeDirectory{This: *fm, Name: o.Name, Datacenter: &r.p.datacenter})
		return "", err
	})
}

// neighbour is a VCH that stays, and the folders of its volumes and images.
type neighbour struct {
	name    string
	folders []string
}

// readOthers reads what stores the VCHs use that stay, where a victim has
// stores beside its own folder.
func (k *cleaner) readOthers(ctx context.Context, victims []*victim) error {
	going := map[Ref]bool{}
	shares := false
	for _, v := range victims {
		if v.machine == nil {
			continue
		}
		going[v.machine.Ref] = true
		_, own := splitPath(v.machine.Path)
		shares = shares || len(v.config.Storage.Volumes) > 0 ||
			slices.ContainsFunc(v.config.Storage.ImageStores, func(u StoreURL) bool { return strings.Trim(u.Path, "/") != own })
	}
	for _, v := range victims { // the appliance may be gone already
		shares = shares || slices.ContainsFunc(slices.Concat(v.journal.Pending(), v.made), func(o Object) bool { return o.Kind == "volume" || o.Kind == "images" })
	}
	if !shares {
		return nil
	}
	var refs []Ref
	for _, m := range k.site.Machines {
		if markerOf(m) != "" && !going[m.Ref] {
			refs = append(refs, m.Ref)
		}
	}
	details, err := readDetails(ctx, k.c, refs)
	if err != nil {
		return err
	}
	for _, d := range details {
		var c Config
		_ = DecodeKeys(d.Keys, &c, nil)
		n := neighbour{name: d.Name}
		for _, u := range c.Storage.Volumes {
			if folder, ok := u.volumes(); ok {
				n.folders = append(n.folders, folder)
			}
		}
		for _, u := range c.Storage.ImageStores {
			if u.Scheme == "ds" {
				n.folders = append(n.folders, onStore(u.Host, strings.Trim(u.Path, "/")))
			}
		}
		k.others = append(k.others, n)
	}
	return nil
}

// volumes returns where the volumes of a store lie, as [datastore] folder, and
// false for one that is not on a datastore.
func (u StoreURL) volumes() (string, bool) {
	store, folder := splitPath(u.Path + "/x")
	if u.Scheme != "ds" || store == "" {
		return "", false
	}
	return onStore(store, volumeFolder(strings.Trim(folder, "/"))), true
}

// userOf returns the VCH that stays and has its images or volumes in a folder,
// or below it.
func (k *cleaner) userOf(o Object) string {
	for _, n := range k.others {
		if slices.ContainsFunc(n.folders, func(f string) bool { return f == o.Name || strings.HasPrefix(f, o.Name+"/") }) {
			return n.name
		}
	}
	return ""
}

// stores adds a VCH's volumes, and its images where they are outside of its own
// folder. What another VCH keeps beside them stays. whole says that the folder
// of the images was made for this VCH.
func (k *cleaner) stores(v *victim, add func(Object), whole, labctls bool) {
	for _, name := range strings.Split(v.machine.Keys[keyParents], listSeparator) {
		if name != "" {
			add(Object{Kind: "parent", Name: name, Parent: v.dc.Value})
		}
	}
	_, own := splitPath(v.machine.Path)
	for _, u := range v.config.Storage.ImageStores {
		dir := strings.Trim(u.Path, "/")
		if dir == "" || dir == own || u.Scheme != "ds" || badPath(dir) {
			continue
		}
		all := Object{Kind: "images", Name: onStore(u.Host, dir), Parent: v.dc.Value}
		shared := k.userOf(all) != ""
		if whole && labctls && !shared {
			add(all)
			continue
		}
		if !shared && !labctls {
			// vic-machine takes the folder along when that leaves it empty.
			add(Object{Kind: "parent", Name: all.Name, Parent: all.Parent})
			add(Object{Kind: "parent", Name: onStore(u.Host, dir, storeRoot), Parent: all.Parent})
		}
		if v.machine.UUID != "" {
			add(Object{Kind: "images", Name: onStore(u.Host, dir, storeRoot, v.machine.UUID), Parent: v.dc.Value})
		}
		if !shared {
			add(Object{Kind: "images", Name: onStore(u.Host, dir, kvDir), Parent: v.dc.Value})
		}
	}
	if k.undoing {
		return // of the volumes only those that the failed run made: they are in its list
	}
	for label, u := range v.config.Storage.Volumes {
		folder, ok := u.volumes()
		if !ok {
			v.kept = append(v.kept, fmt.Sprintf("volume store %s: %s://%s%s", label, u.Scheme, u.Host, u.Path))
			continue
		}
		add(Object{Kind: "volume", Name: folder, Parent: v.dc.Value})
	}
}
