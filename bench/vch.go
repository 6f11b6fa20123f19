package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The conditions of the questions about VCHs.
const (
	bootTime   = 5 * time.Second // of a VCH, where wall time is measured; a real one takes half a minute and more
	manyVCHs   = 10
	imageBytes = 64 << 20 // of each of the two images, where throughput is measured
)

// plainVMs are the sizes of inventory at which vch ls is counted.
var plainVMs = []int{1, 100, 300}

// vias are the two ways to a lab, with a scene that allows VCHs to be made on them.
var vias = []struct{ via, scene string }{{"vcenter", "nuc"}, {"esxi", "standalone"}}

// call is one labctl vch command that did what it should.
type call struct {
	counted int // requests, by labsim
	bytes   int64
	took    time.Duration
	out     []byte // stdout
}

// vch runs labctl vch and asks labsim what that cost.
func (l *lab) vch(ctx context.Context, out io.Writer, args ...string) (*call, error) {
	before, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	args = append([]string{"vch"}, append(args, "--config", l.config, "-o", "json", "--yes")...)
	r, err := l.bin.watched(ctx, environ(l.home), out, "labctl", args...)
	if err != nil {
		return nil, err
	}
	after, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	c := &call{counted: after.Requests.Total - before.Requests.Total, took: r.took, out: r.out}
	for via, n := range after.Requests.Bytes {
		c.bytes += n - before.Requests.Bytes[via]
	}
	return c, nil
}

// up makes VCHs and makes sure by labsim's word that they run.
func (l *lab) up(ctx context.Context, out io.Writer, want int, args ...string) (*call, error) {
	c, err := l.vch(ctx, out, append([]string{"up"}, args...)...)
	if err != nil {
		return nil, err
	}
	s, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	running := 0
	for _, v := range s.VCHs {
		if v.Phase == "up" {
			running++
		}
	}
	if running != want || len(s.VCHs) != want {
		return nil, fmt.Errorf("labctl is content, but %d of %d VCHs run instead of %d", running, len(s.VCHs), want)
	}
	return c, nil
}

// down removes all VCHs and makes sure that nothing is left of them.
func (l *lab) down(ctx context.Context, args ...string) (*call, error) {
	c, err := l.vch(ctx, nil, append([]string{"down"}, args...)...)
	if err != nil {
		return nil, err
	}
	s, err := l.state(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.VCHs) > 0 || len(s.Files) > 0 {
		return nil, fmt.Errorf("labctl is content, but %d VCHs and %d files are left", len(s.VCHs), len(s.Files))
	}
	return c, nil
}

// vchs answers all questions about VCHs.
func (b *bench) vchs(ctx context.Context) error {
	b.rep.VCH = &vchs{}
	b.say("requests of vch up, ls and down")
	for _, p := range vias {
		count := func(ctx context.Context, l *lab) error { return b.vchCounts(ctx, l, p.via) }
		if err := b.withLab(ctx, fewVMs, count, "--scene", p.scene); err != nil {
			return fmt.Errorf("counting the requests of VCHs: %w", err)
		}
	}
	for _, n := range plainVMs {
		if err := b.withLab(ctx, n, b.lists); err != nil {
			return fmt.Errorf("counting the requests of vch ls with %d VMs: %w", n, err)
		}
	}
	b.say("upload of two images of %d MB, beside a plain PUT", imageBytes>>20)
	if err := b.withLab(ctx, fewVMs, b.uploads, "--boot", "10ms"); err != nil {
		return fmt.Errorf("measuring the upload: %w", err)
	}
	b.say("one VCH and %d side by side, each of which boots for %v", manyVCHs, bootTime)
	if err := b.withLab(ctx, fewVMs, b.many, "--boot", bootTime.String()); err != nil {
		return fmt.Errorf("measuring %d VCHs: %w", manyVCHs, err)
	}
	return nil
}

// vchCounts follows one VCH from its beginning to its end.
func (b *bench) vchCounts(ctx context.Context, l *lab, via string) error {
	if err := l.fresh(ctx, 0, 0); err != nil {
		return err
	}
	c, err := l.up(ctx, nil, 1, "t1", "--via", via)
	if err != nil {
		return err
	}
	b.rep.VCH.count("up", via, maxUp, c)
	if c, err = l.vch(ctx, nil, "ls", "--via", via); err != nil {
		return err
	}
	var list struct {
		VCHs []struct{ Name, Marker string }
	}
	if err := json.Unmarshal(c.out, &list); err != nil {
		return fmt.Errorf("reading what vch ls found: %w", err)
	}
	if len(list.VCHs) != 1 || list.VCHs[0].Name != "t1" || list.VCHs[0].Marker != "match" {
		return fmt.Errorf("vch ls does not show t1: %.200s", c.out)
	}
	b.rep.VCH.count("ls, with a VCH", via, maxList, c)
	if c, err = l.down(ctx, "t1", "--via", via); err != nil {
		return err
	}
	b.rep.VCH.count("down of an empty one", via, maxDown, c)
	return nil
}

// lists counts vch ls beside machines that are no VCHs.
func (b *bench) lists(ctx context.Context, l *lab) error {
	for _, p := range vias {
		if err := l.fresh(ctx, 0, 0); err != nil {
			return err
		}
		c, err := l.vch(ctx, nil, "ls", "--via", p.via)
		if err != nil {
			return err
		}
		b.rep.VCH.Lists = append(b.rep.VCH.Lists, vchList{VMs: l.vms, Via: p.via, Requests: c.counted, Ms: ms(c.took)})
	}
	return nil
}

// many compares one VCH with several that come up side by side.
func (b *bench) many(ctx context.Context, l *lab) error {
	q := vchMany{VCHs: manyVCHs, BootMs: ms(bootTime)}
	var one, ten []time.Duration
	for range max(1, b.runs/2) {
		for _, c := range []struct {
			n        int
			took     *[]time.Duration
			requests *int
			bytes    *int64
		}{{1, &one, &q.RequestsOne, &q.BytesOne}, {manyVCHs, &ten, &q.RequestsMany, &q.BytesMany}} {
			if err := l.fresh(ctx, 0, 0); err != nil {
				return err
			}
			r, err := l.up(ctx, nil, c.n, "t", "--count", fmt.Sprint(c.n))
			if err != nil {
				return err
			}
			*c.took = append(*c.took, r.took)
			*c.requests, *c.bytes = max(*c.requests, r.counted), max(*c.bytes, r.bytes)
			if _, err := l.down(ctx, "--all"); err != nil {
				return err
			}
		}
	}
	bundle, err := sizeOf(l.config + ".bundle")
	if err != nil {
		return err
	}
	q.One, q.Many = spreadOf(one), spreadOf(ten)
	q.Ratio = float64(median(ten)) / float64(median(one))
	q.BytesRatio = float64(q.BytesMany) / float64(bundle)
	b.rep.VCH.Many = &q
	return nil
}

func sizeOf(bundle string) (n int64, err error) {
	for _, name := range imageNames {
		info, err := os.Stat(filepath.Join(bundle, name))
		if err != nil {
			return 0, fmt.Errorf("looking at the bundle: %w", err)
		}
		n += info.Size()
	}
	return n, nil
}

var imageNames = []string{"appliance.iso", "bootstrap.iso"}

// writeBundle makes images of that size, with nothing of ISO 9660 in them but the field from which labctl learns their
// version (ECMA-119, 8.4): the publisher in the descriptor, which is the seventeenth sector.
func writeBundle(dir string, size int) error {
	const sector, publisher, width = 2048, 318, 128
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a bundle: %w", err)
	}
	head := bytes.Repeat([]byte("neither disk nor program"), 17*sector/24+1)[:17*sector] // no zeros, which a file system may not keep
	d := head[16*sector:]
	clear(d)
	copy(d, "\x01CD001\x01")
	copy(d[publisher:], fmt.Sprintf("%-*s", width, "labctl bench v1.5.8-0-2c978fe"))
	for _, name := range imageNames {
		if err := writeImage(filepath.Join(dir, name), head, size); err != nil {
			return fmt.Errorf("making a bundle: %w", err)
		}
	}
	return nil
}

// writeImage repeats a block until the file has its size: only the first descriptor is looked at.
func writeImage(name string, block []byte, size int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for left := size; left > 0 && err == nil; {
		var n int
		n, err = f.Write(block[:min(left, len(block))])
		left -= n
	}
	return errors.Join(err, f.Close())
}

// uploads compares labctl's upload with plain PUTs of the same files to the same server, in turn: one after the other,
// and both at once as labctl sends them.
func (b *bench) uploads(ctx context.Context, l *lab) error {
	bundle := filepath.Join(l.dir, "large")
	if err := writeBundle(bundle, imageBytes); err != nil {
		return err
	}
	q := vchUpload{Bytes: 2 * imageBytes}
	var ours, serial, both []time.Duration
	for i := range b.runs + 3 { // the noise is larger than that of other questions, and a run is short
		for _, c := range []struct {
			took *[]time.Duration
			do   func() (time.Duration, error)
		}{
			{&ours, func() (time.Duration, error) { return l.upload(ctx, bundle) }},
			{&serial, func() (time.Duration, error) { return l.put(ctx, bundle, false) }},
			{&both, func() (time.Duration, error) { return l.put(ctx, bundle, true) }},
		} {
			if err := l.fresh(ctx, 0, 0); err != nil {
				return err
			}
			took, err := c.do()
			if err != nil {
				return err
			}
			if i > 0 { // the first round brings everything into memory
				*c.took = append(*c.took, took)
			}
		}
	}
	q.Labctl, q.Serial, q.Both = spreadOf(ours), spreadOf(serial), spreadOf(both)
	best := serial
	if median(both) < median(serial) {
		best = both
	}
	q.Ratio = medianRatio(best, ours)
	b.rep.VCH.Upload = &q
	return nil
}

// medianRatio is the median over the rounds of a/b: what was measured in the same round had the same machine.
func medianRatio(a, b []time.Duration) float64 {
	var ratios []float64
	for i := range a {
		ratios = append(ratios, float64(a[i])/float64(b[i]))
	}
	slices.Sort(ratios)
	return (ratios[(len(ratios)-1)/2] + ratios[len(ratios)/2]) / 2
}

// upload is how long labctl's upload of a bundle took, by the times at which its events came.
func (l *lab) upload(ctx context.Context, bundle string) (time.Duration, error) {
	e := &events{}
	c, err := l.up(ctx, e, 1, "t1", "--bundle", bundle, "--tls", "none")
	if err != nil {
		return 0, err
	}
	if c.bytes != 2*imageBytes || e.done != c.bytes || e.first.IsZero() {
		return 0, fmt.Errorf("%d bytes were uploaded, and labctl told of %d", c.bytes, e.done)
	}
	return e.last.Sub(e.first), nil
}

// events notes when the first and the last event of an upload came.
type events struct {
	rest        []byte // an unfinished line
	first, last time.Time
	done        int64 // bytes
}

func (e *events) Write(b []byte) (int, error) {
	now := time.Now()
	e.rest = append(e.rest, b...)
	for {
		line, rest, ok := bytes.Cut(e.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		e.rest = rest
		var ev struct {
			Event string
			Done  int64
		}
		if json.Unmarshal(line, &ev) != nil || ev.Event != "upload" {
			continue
		}
		if e.first.IsZero() {
			e.first = now
		}
		e.done, e.last = ev.Done, now // the last one comes when the server has answered
	}
}

// put sends the same two files by plain HTTP, on a connection that is open already, as labctl's is.
func (l *lab) put(ctx context.Context, bundle string, both bool) (time.Duration, error) {
	password, err := os.ReadFile(l.config + ".vcenter.password")
	if err != nil {
		return 0, fmt.Errorf("reading the lab's password: %w", err)
	}
	u, err := url.Parse(l.vcenter)
	if err != nil {
		return 0, fmt.Errorf("reading the vCenter's address: %w", err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	send := func(method, name string, body io.Reader) error {
		at := *u
		at.Path = "/folder/" + name
		at.RawQuery = url.Values{"dcPath": {"Homelab"}, "dsName": {"datastore1"}}.Encode()
		req, err := http.NewRequestWithContext(ctx, method, at.String(), body)
		if err != nil {
			return err
		}
		if body != nil {
			req.ContentLength = imageBytes
		}
		req.SetBasicAuth(l.user, strings.TrimSpace(string(password)))
		res, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body) // so that the connection can be used again; what it says is no matter
		if body != nil && res.StatusCode != http.StatusCreated {
			return errors.New(res.Status)
		}
		return nil
	}
	file := func(name string) error {
		f, err := os.Open(filepath.Join(bundle, name))
		if err != nil {
			return err
		}
		defer f.Close()
		return send(http.MethodPut, "plain-"+name, f)
	}
	if err := send(http.MethodHead, "none", nil); err != nil {
		return 0, fmt.Errorf("opening a connection: %w", err)
	}
	errs := make([]error, len(imageNames))
	start := time.Now()
	var wg sync.WaitGroup
	for i, name := range imageNames {
		if both {
			wg.Go(func() { errs[i] = file(name) })
		} else {
			errs[i] = file(name)
		}
	}
	wg.Wait()
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("plain PUT: %w", err)
	}
	return took, nil
}
