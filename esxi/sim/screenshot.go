package sim

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// screenSize is what a machine in text mode shows: 80×25 cells of 8×16 pixels.
var screenSize = image.Rect(0, 0, 640, 400)

// screenshot gives a VM's screen as a PNG. One without a console of the lab's, or that is not running, is black. mu is
// held.
func (s *site) screenshot(v *vm) ([]byte, error) {
	var img image.Image = image.NewGray(screenSize)
	if d := s.deskOf(v); d != nil && s.powered(d) == powerOn {
		img = d.con.Picture()
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("drawing the screen of %s: %w", v.name, err)
	}
	return b.Bytes(), nil
}

// photograph takes a screenshot of a VM that is powered on and that this inventory's path reaches.
func (in *inventory) photograph(ref types.ManagedObjectReference) (*vm, []byte, error) {
	s := in.site
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.world.vm(in.ids[ref])
	if v == nil {
		return nil, nil, refuse(&types.ManagedObjectNotFound{Obj: ref}, "there is no VM %s", ref.Value)
	}
	if !in.direct() {
		if err := s.connected(v.host); err != nil {
			return nil, nil, err
		}
	}
	if !v.on {
		return nil, nil, poweredOff(v)
	}
	shot, err := s.screenshot(v)
	return v, shot, err
}

func poweredOff(v *vm) error {
	return refuse(&types.InvalidPowerState{
		RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: types.VirtualMachinePowerStatePoweredOff,
	}, "%s is powered off", v.name)
}

// CreateScreenshotTask writes a screenshot beside the VM's files; the task's result is its path on the datastore.
func (a *api) CreateScreenshotTask(req *types.CreateScreenshot_Task) soap.HasFault {
	task := a.startTask(req.This, "createScreenshot", func() (types.AnyType, error) {
		v, shot, err := a.photograph(req.This)
		if err != nil {
			return nil, err
		}
		// Folders are named after the VM when it was made, which its id tells.
		folder, _, _ := strings.Cut(strings.TrimPrefix(v.id, v.host+"/"), "#")
		dir := filepath.Join(a.site.dirOf(v.host), folder)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("keeping a screenshot of %s: %w", v.name, err)
		}
		for n := 1; ; n++ {
			name := fmt.Sprintf("%s-%d.png", folder, n)
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if os.IsExist(err) {
				continue
			}
			if err == nil {
				_, err = f.Write(shot)
				if cerr := f.Close(); err == nil {
					err = cerr
				}
			}
			if err != nil {
				return nil, fmt.Errorf("keeping a screenshot of %s: %w", v.name, err)
			}
			return fmt.Sprintf("[%s] %s/%s", a.site.datastoreOf(v.host), folder, name), nil
		}
	})
	return &methods.CreateScreenshot_TaskBody{Res: &types.CreateScreenshot_TaskResponse{Returnval: task}}
}

// serveScreen answers GET /screen?id=MOREF with a PNG, for the session in the cookie or a password sent along.
func (in *inventory) serveScreen(admits func(user, password string) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !(ok && admits(user, password)) && !in.loggedIn(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, shot, err := in.photograph(types.ManagedObjectReference{Type: "VirtualMachine", Value: r.URL.Query().Get("id")})
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(shot)
	}
}

// loggedIn asks vcsim whether a request's cookie names a session, by a call that needs one and does nothing.
func (in *inventory) loggedIn(r *http.Request) bool {
	const call = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>` +
		`<TerminateSession xmlns="urn:vim25"><_this type="SessionManager">%s</_this></TerminateSession></Body></Envelope>`
	req := r.Clone(r.Context())
	req.Method, req.URL.Path, req.URL.RawQuery = http.MethodPost, vim25.Path, ""
	req.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(call, in.reg.SessionManager().Self.Value)))
	answer := newAnswer()
	in.svc.ServeMux.ServeHTTP(answer, req)
	return answer.code == http.StatusOK
}
