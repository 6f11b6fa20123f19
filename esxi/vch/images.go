package vch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// images places the two images of a bundle into the folders of several VCHs:
// the first one gets them from this machine, or from a VCH that has them, and
// the others from there, by copies on the server.
type images struct {
	mu     sync.Mutex
	busy   chan struct{} // closed when the one who works on it is done; nil: nobody does
	folder string        // where they are; "" is nowhere yet
}

// place puts the images into the run's own folder.
func (im *images) place(ctx context.Context, r *upRun) error {
	for {
		im.mu.Lock()
		switch {
		case im.folder != "":
			from := im.folder
			im.mu.Unlock()
			if err := r.copyImages(ctx, from); err == nil || ctx.Err() != nil {
				return err
			}
			// The folder went away, with the VCH it belonged to.
			return r.upload(ctx)
		case im.busy != nil:
			wait := im.busy
			im.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		im.busy = make(chan struct{})
		im.mu.Unlock()
		err := r.fetch(ctx)
		im.mu.Lock()
		if err == nil {
			im.folder = r.at.folder
		}
		close(im.busy)
		im.busy = nil
		im.mu.Unlock()
		return err
	}
}

// fetch takes the images from another VCH of the same bundle, else from here.
func (r *upRun) fetch(ctx context.Context) error {
	if from := r.imageSource(ctx); from != "" {
		if err := r.copyImages(ctx, from); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return r.upload(ctx)
}

// maxSources is how many VCHs are asked for their images: each costs two
// requests.
const maxSources = 2

// imageSource returns the folder of a VCH on the same datastore whose images
// have the right names and sizes.
func (r *upRun) imageSource(ctx context.Context) string {
	b := r.p.spec.Bundle
	appliance, bootstrap := b.Version.files()
	asked := 0
	for _, m := range r.p.site.Machines {
		store, folder := splitPath(m.Path)
		if mark := markerOf(m); mark == "" || mark == "creating" || store != r.p.Datastore || folder == "" || newEntry(m).VersionString != b.Version.String() {
			continue
		}
		if asked++; asked > maxSources {
			break
		}
		if r.sizeOf(ctx, path.Join(folder, appliance)) == b.Appliance.Size && r.sizeOf(ctx, path.Join(folder, bootstrap)) == b.Bootstrap.Size {
			return folder
		}
	}
	return ""
}

// sizeOf returns the size of a file on the plan's datastore, -1 where it cannot
// be told.
func (r *upRun) sizeOf(ctx context.Context, file string) int64 {
	res, err := storeRequest(ctx, r.c, http.MethodHead, storeURL(r.c, r.p.Datacenter, r.p.Datastore, file), nil, 0)
	if err != nil {
		return -1
	}
	res.Body.Close()
	return res.ContentLength
}

func (r *upRun) copyImages(ctx context.Context, from string) error {
	r.step("copy the images on the datastore")
	fm := r.c.Vim.ServiceContent.FileManager
	if fm == nil {
		return errors.New("the server has no file manager")
	}
	appliance, bootstrap := r.p.spec.Bundle.Version.files()
	calls, done := r.change(ctx)
	defer done()
	var tasks []Ref
	for _, name := range []string{appliance, bootstrap} {
		res, err := methods.CopyDatastoreFile_Task(calls, r.c.Vim, &types.CopyDatastoreFile_Task{
			This:       *fm,
			SourceName: onStore(r.p.Datastore, from, name), SourceDatacenter: &r.p.datacenter,
			DestinationName: onStore(r.p.Datastore, r.at.folder, name), DestinationDatacenter: &r.p.datacenter,
			Force: types.NewBool(true),
		})
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
		tasks = append(tasks, res.Returnval)
	}
	for _, t := range tasks {
		if _, err := wait(calls, r.c, t); err != nil {
			return fmt.Errorf("copy the images: %w", err)
		}
	}
	return ctx.Err()
}

// UploadError says that an image did not get to the datastore.
type UploadError struct {
	File string // on the datastore
	Sent int64  // bytes that left this machine
	Size int64
	Err  error
}

func (e *UploadError) Error() string {
	return fmt.Sprintf("upload %s: %v, after %d of %d bytes", e.File, e.Err, e.Sent, e.Size)
}

func (e *UploadError) Unwrap() error { return e.Err }

// uploadTick is the time between two reports of an upload.
const uploadTick = 250 * time.Millisecond

// upload sends both images, side by side.
func (r *upRun) upload(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.uploadTimeout(), fmt.Errorf("the upload took longer than %v", r.o.uploadTimeout()))
	defer cancel()
	b := r.p.spec.Bundle
	appliance, bootstrap := b.Version.files()
	total := b.Appliance.Size + b.Bootstrap.Size
	var sent atomic.Int64
	start := time.Now()
	report := func() {
		r.on(Event{Kind: "upload", Text: "upload the images", Done: sent.Load(), Total: total, Ms: time.Since(start).Milliseconds()})
	}
	report()
	ticking, stop := context.WithCancel(ctx)
	var ticks sync.WaitGroup
	ticks.Go(func() {
		for sleep(ticking, uploadTick) == nil {
			report()
		}
	})
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, f := range []struct {
		image Image
		name  string
	}{{b.Appliance, appliance}, {b.Bootstrap, bootstrap}} {
		wg.Go(func() {
			errs[i] = putFile(ctx, r.c, r.p.Datacenter, r.p.Datastore, path.Join(r.at.folder, f.name), f.image, &sent)
			if errs[i] != nil {
				cancel() // the other half is of no use
			}
		})
	}
	wg.Wait()
	stop()
	ticks.Wait()
	report()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// putFile sends one file to a datastore.
func putFile(ctx context.Context, c *esxi.Client, datacenter, store, file string, image Image, sent *atomic.Int64) error {
	fail := func(n int64, err error) error {
		if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
			err = cause
		}
		var out *url.Error
		if errors.As(err, &out) {
			err = out.Err
		}
		return &UploadError{File: onStore(store, file), Sent: n, Size: image.Size, Err: err}
	}
	f, err := os.Open(image.Path)
	if err != nil {
		return fail(0, err)
	}
	defer f.Close()
	body := &counting{r: io.LimitReader(f, image.Size), all: sent}
	res, err := storeRequest(ctx, c, http.MethodPut, storeURL(c, datacenter, store, file), body, image.Size)
	if err != nil {
		return fail(body.own.Load(), err)
	}
	res.Body.Close()
	return nil
}

// counting counts what is read.
type counting struct {
	r   io.Reader
	own atomic.Int64
	all *atomic.Int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.own.Add(int64(n))
	c.all.Add(int64(n))
	return n, err
}

// storeURL addresses a file of a datastore at the connection's own server. A
// vCenter passes it on to a host; asking it for a host and a ticket, as govc
// does, would need a second certificate to trust and a way to each host.
func storeURL(c *esxi.Client, datacenter, store, file string) *url.URL {
	u := *c.Vim.URL()
	u.Path = "/folder/" + file
	u.RawPath = ""
	u.RawQuery = url.Values{"dcPath": {datacenter}, "dsName": {store}}.Encode()
	return &u
}

// statusError is an answer of the datastore's web access other than success.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return "the datastore answers " + e.text }

// storeRequest sends one request to a datastore. The caller closes the body.
func storeRequest(ctx context.Context, c *esxi.Client, method string, u *url.URL, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	req.Header.Set("User-Agent", c.Vim.UserAgent)
	start := time.Now()
	res, err := c.Vim.Client.Client.Do(req)
	if err == nil && res.StatusCode/100 != 2 {
		res.Body.Close()
		err = &statusError{res.StatusCode, strings.TrimSpace(res.Status)}
	}
	if on := c.Endpoint().On; on != nil {
		on(esxi.Call{Host: u.Host, Method: method + " /folder", Took: time.Since(start), Err: err})
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}
