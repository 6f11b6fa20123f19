package sim

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Datastores are directories on disk, the same ones for the vCenter and for the host whose they are. Over HTTP they
// are read and written under /folder, as on a host: by a session's cookie, a service ticket, or a user and password.

const folderPath = "/folder/"

// sessionCookie is what a login answers with; ticketCookie carries what AcquireGenericServiceTicket gives.
const (
	sessionCookie = soap.SessionCookieName
	ticketCookie  = "vmware_cgi_ticket"
)

// pass keeps who may use an endpoint's files.
type pass struct {
	mu       sync.Mutex
	sessions map[string]bool
	tickets  map[string]bool
}

func (p *pass) admit(set *map[string]bool, key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[key] = true
}

// follow notes the sessions that begin and end.
func (p *pass) follow(call string, r *http.Request, header http.Header) {
	switch call {
	case "Login":
		for _, c := range (&http.Response{Header: header}).Cookies() {
			if c.Name == sessionCookie {
				p.admit(&p.sessions, c.Value)
			}
		}
	case "Logout":
		if c, err := r.Cookie(sessionCookie); err == nil {
			p.mu.Lock()
			delete(p.sessions, c.Value)
			p.mu.Unlock()
		}
	}
}

// allows says whether a request for a file may pass. A ticket is good for one request.
func (p *pass) allows(e *endpoint, r *http.Request) bool {
	if user, password, ok := r.BasicAuth(); ok {
		return user == e.user && password == e.password
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, err := r.Cookie(sessionCookie); err == nil && p.sessions[strings.Trim(c.Value, `"`)] {
		return true
	}
	if c, err := r.Cookie(ticketCookie); err == nil && p.tickets[c.Value] {
		delete(p.tickets, c.Value)
		return true
	}
	return false
}

// AcquireGenericServiceTicket gives a ticket for one request to a host's files, as the vCenter does for uploads that
// go straight to the host.
func (a *api) AcquireGenericServiceTicket(req *types.AcquireGenericServiceTicket) soap.HasFault {
	l := a.site.lab
	e := l.vcenter
	if a.direct() {
		e = l.endpointOf(a.host)
	} else if spec, ok := req.Spec.(*types.SessionManagerHttpServiceRequestSpec); ok {
		a.site.mu.RLock()
		for _, h := range a.site.world.hosts {
			if strings.Contains(spec.Url, "//"+h.address+"/") || strings.Contains(spec.Url, "//"+h.name+"/") {
				e = l.endpointOf(h.name)
			}
		}
		a.site.mu.RUnlock()
	}
	id, err := secret()
	if err != nil {
		return faulted(err)
	}
	e.pass.admit(&e.pass.tickets, id)
	return &methods.AcquireGenericServiceTicketBody{Res: &types.AcquireGenericServiceTicketResponse{
		Returnval: types.SessionManagerGenericServiceTicket{Id: id, HostName: e.addr(), SslThumbprint: e.sha1()},
	}}
}

// endpointOf is a host's own endpoint.
func (l *Lab) endpointOf(host string) *endpoint {
	for _, e := range l.hosts {
		if e.host == host {
			return e
		}
	}
	return l.vcenter
}

// serveFiles answers a request under /folder. What is uploaded goes to the disk as it comes, so a cut leaves what had
// arrived by then.
func (e *endpoint) serveFiles(w http.ResponseWriter, r *http.Request, cur *served) {
	life := cur.site.life.Load()
	call := r.Method + " /folder"
	strikes := e.lab.faults.request(e.path(), call)
	e.lab.count(e.path(), call)
	rtt := strikes.delay / 2
	if life.sleep(rtt) != nil || !e.held(strikes.before, r, life) || strikes.dropBefore {
		cut(w)
		return
	}
	answer := newAnswer()
	var file string
	var err error
	switch {
	case strikes.fault != nil:
		http.Error(answer, fmt.Sprintf("%T, as armed", strikes.fault), http.StatusInternalServerError)
	case !e.pass.allows(e, r):
		answer.Header().Set("WWW-Authenticate", `Basic realm="labsim"`)
		http.Error(answer, "log in first", http.StatusUnauthorized)
	default:
		var ds, dir string
		if ds, dir, err = e.datastore(cur.site, r); err != nil {
			http.Error(answer, err.Error(), http.StatusNotFound)
			break
		}
		name := path.Clean(strings.TrimPrefix(r.URL.Path, folderPath))
		if strings.HasPrefix(name, "..") {
			http.Error(answer, "that is outside of the datastore", http.StatusBadRequest)
			break
		}
		file = filepath.Join(dir, filepath.FromSlash(name))
		switch r.Method {
		case http.MethodPut, http.MethodPost:
			cur.site.touched.Store(true)
			if !e.receive(answer, r, file) {
				cut(w)
				return
			}
		case http.MethodDelete:
			cur.site.touched.Store(true)
			if err := os.Remove(file); errors.Is(err, os.ErrNotExist) {
				http.Error(answer, "there is no such file", http.StatusNotFound)
			} else if err != nil {
				http.Error(answer, "the file cannot be deleted", http.StatusForbidden)
			} else {
				answer.WriteHeader(http.StatusNoContent)
			}
		case http.MethodGet, http.MethodHead:
			if text, ok := cur.site.vmx(fmt.Sprintf("[%s] %s", ds, name)); ok {
				http.ServeContent(answer, r, "", timeless, strings.NewReader(text))
			} else if strikes.dropAfter || strikes.after != nil {
				http.ServeFile(answer, r, file)
			} else {
				if life.sleep(strikes.delay-rtt) == nil {
					http.ServeFile(w, r, file) // not by way of memory: a file may be large
				}
				return
			}
		default:
			http.Error(answer, r.Method+" is not for files", http.StatusMethodNotAllowed)
		}
	}
	if life.sleep(strikes.delay-rtt) != nil || !e.held(strikes.after, r, life) || strikes.dropAfter {
		cut(w)
		return
	}
	answer.writeTo(w)
}

// datastore finds the datastore that a request names, and its directory.
func (e *endpoint) datastore(s *site, r *http.Request) (name, dir string, err error) {
	q := r.URL.Query()
	name = q.Get("dsName")
	dc := "Homelab"
	if e.host != "" {
		dc = "ha-datacenter"
	}
	if asked := strings.Trim(q.Get("dcPath"), "/"); asked != "" && asked != dc {
		return "", "", fmt.Errorf("there is no datacenter %q", asked)
	}
	for _, h := range s.scene.hosts {
		if e.host != "" && h.name != e.host {
			continue
		}
		if ds := s.datastoreOf(h.name); name == ds {
			return ds, s.dirOf(h.name), nil
		}
	}
	return "", "", fmt.Errorf("there is no datastore %q", name)
}

// receive writes an upload to its file; false means that the connection is to be cut.
func (e *endpoint) receive(w http.ResponseWriter, r *http.Request, file string) bool {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		http.Error(w, "the directory cannot be made", http.StatusInternalServerError)
		return true
	}
	f, err := os.Create(file)
	if err != nil {
		http.Error(w, "the file cannot be written", http.StatusInternalServerError)
		return true
	}
	defer f.Close()
	var body io.Reader = r.Body
	limit, breaks := e.lab.faults.uploadBreaks(e.path())
	if breaks {
		body = io.LimitReader(r.Body, limit)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, 1<<20))
	e.lab.received(e.path(), n)
	if err != nil || breaks {
		return false
	}
	w.WriteHeader(http.StatusCreated)
	return true
}

// received adds up the bytes of uploads.
func (l *Lab) received(path string, n int64) {
	l.tally.mu.Lock()
	defer l.tally.mu.Unlock()
	if l.tally.bytes == nil {
		l.tally.bytes = map[string]int64{}
	}
	l.tally.bytes[path] += n
}

// FileState is a file or directory on a datastore.
type FileState struct {
	Path string `json:"path"` // [datastore] path, with a trailing slash if it is a directory
	Size int64  `json:"size"` // bytes
}

// files lists what is on the datastores, but for the files that the scene's own VMs brought.
func (s *site) files() []FileState {
	list := []FileState{}
	for _, h := range s.scene.hosts {
		root := s.dirOf(h.name)
		_ = filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			rel, rerr := filepath.Rel(root, p)
			if err != nil || rerr != nil || rel == "." {
				return nil // it has just gone
			}
			f := FileState{Path: fmt.Sprintf("[%s] %s", s.datastoreOf(h.name), filepath.ToSlash(rel))}
			if d.IsDir() {
				f.Path += "/"
			} else if info, err := d.Info(); err == nil {
				f.Size = info.Size()
			}
			if !slices.ContainsFunc(s.scene.vms, func(v *vm) bool {
				return strings.HasPrefix(f.Path, fmt.Sprintf("[%s] %s/", s.datastoreOf(v.host), v.name))
			}) {
				list = append(list, f)
			}
			return nil
		})
	}
	return list
}

// onDisk is where a path like "[datastore1] vm/disk.vmdk" is on this machine's disk.
func (s *site) onDisk(file string) (string, bool) {
	var p object.DatastorePath
	if !p.FromString(file) {
		return "", false
	}
	name := path.Clean("/" + p.Path)
	for _, h := range s.scene.hosts {
		if s.datastoreOf(h.name) == p.Datastore {
			return filepath.Join(s.dirOf(h.name), filepath.FromSlash(name)), true
		}
	}
	return "", false
}

// removeFiles deletes what belongs to a VM: hostd leaves alone what it does not know, and with it the directory.
func (s *site) removeFiles(vmx string, disks []string) {
	file, ok := s.onDisk(vmx)
	if !ok {
		return
	}
	dir, base := filepath.Dir(file), strings.TrimSuffix(filepath.Base(file), ".vmx")
	names := []string{filepath.Base(file), base + ".nvram", base + ".vmxf", base + ".vmsd", "vmware.log"}
	for _, n := range names {
		_ = os.Remove(filepath.Join(dir, n))
	}
	for _, d := range disks {
		if f, ok := s.onDisk(d); ok {
			_ = os.Remove(f)
			_ = os.Remove(strings.TrimSuffix(f, ".vmdk") + "-flat.vmdk")
		}
	}
	_ = os.Remove(dir) // fails if something is left in it
}

// DeleteDatastoreFileTask refuses to delete what a running VM has open: its own files, and the images in its drives.
func (a *api) DeleteDatastoreFileTask(req *types.DeleteDatastoreFile_Task) soap.HasFault {
	s := a.site
	m := a.reg.FileManager()
	task := a.startTask(req.This, "deleteDatastoreFile", func() (types.AnyType, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if file, ok := s.onDisk(req.Name); ok {
			if owner := s.openBelow(file); owner != "" {
				return nil, refuse(&types.FileLocked{FileFault: types.FileFault{File: req.Name}}, "%s is in use by %s", req.Name, owner)
			}
		}
		_, err := a.task(m.DeleteDatastoreFileTask(a.context(), req))
		return nil, err
	})
	return &methods.DeleteDatastoreFile_TaskBody{Res: &types.DeleteDatastoreFile_TaskResponse{Returnval: task}}
}

// openBelow names a running VM that has this file open, or one in this directory. The site's lock is held.
func (s *site) openBelow(file string) string {
	for _, v := range s.world.vms {
		if !v.on {
			continue
		}
		in := s.direct[v.host]
		obj, ok := in.reg.Get(in.refs[v.id]).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		var open []string
		in.reg.WithLock(in.context(), obj, func() {
			open = append(open, obj.Config.Files.VmPathName)
			for _, d := range obj.Config.Hardware.Device {
				if b, ok := d.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
					open = append(open, b.GetVirtualDeviceFileBackingInfo().FileName)
				}
			}
		})
		for _, o := range open {
			if p, ok := s.onDisk(o); ok && (p == file || strings.HasPrefix(p, file+string(filepath.Separator))) {
				return v.name
			}
		}
	}
	return ""
}

// datastoreKnown refuses a VM path on a datastore that is not there, over which vcsim stumbles.
func (in *inventory) datastoreKnown(files *types.VirtualMachineFileInfo) error {
	if files == nil || files.VmPathName == "" {
		return refuse(&types.InvalidVmConfig{Property: "configSpec.files.vmPathName"}, "a VM needs a place for its files")
	}
	var p object.DatastorePath
	if !p.FromString(files.VmPathName) {
		return refuse(&types.InvalidDatastorePath{DatastorePath: files.VmPathName}, "%q is not a datastore path", files.VmPathName)
	}
	if in.datastoreAt(files.VmPathName) == nil {
		return refuse(&types.InvalidDatastore{Name: p.Datastore}, "there is no datastore %q", p.Datastore)
	}
	return nil
}
