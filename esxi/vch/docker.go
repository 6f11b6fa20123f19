package vch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/esxi"
)

// Docker is the API of a VCH's Docker endpoint, version 1.25.
type Docker struct {
	Limit time.Duration // longest wait for an image, and for a container's end; 0 is taskLimit

	host   string // host:port
	scheme string
	http   *http.Client
}

// dockerCall bounds one ordinary call.
const dockerCall = 30 * time.Second

// NewDocker returns a client of the endpoint tcp://IP:PORT. Without TLS
// configuration it speaks plain HTTP.
func NewDocker(host string, t *tls.Config) *Docker {
	d := &Docker{host: strings.TrimPrefix(host, "tcp://"), scheme: "http"}
	transport := &http.Transport{TLSClientConfig: t, Proxy: nil}
	if t != nil {
		d.scheme = "https"
	}
	d.http = &http.Client{Transport: transport}
	return d
}

// Close drops the client's connections.
func (d *Docker) Close() { d.http.CloseIdleConnections() }

// DockerError is an answer of the endpoint other than success.
type DockerError struct {
	Op   string
	Code int
	Text string
}

func (e *DockerError) Error() string {
	return fmt.Sprintf("%s: the Docker endpoint answers %d: %s", e.Op, e.Code, e.Text)
}

// call sends one request; the caller closes the body.
func (d *Docker) call(ctx context.Context, op, method, path string, query url.Values, body any) (*http.Response, error) {
	u := url.URL{Scheme: d.scheme, Host: d.host, Path: path, RawQuery: query.Encode()}
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := d.http.Do(req)
	if err != nil {
		var out *url.Error
		if errors.As(err, &out) {
			err = out.Err
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s at %s: %w", op, d.host, err)
	}
	if res.StatusCode >= 400 {
		defer res.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		var said struct{ Message string }
		if json.Unmarshal(b, &said) != nil || said.Message == "" {
			said.Message = strings.Join(strings.Fields(string(b)), " ")
		}
		return nil, &DockerError{op, res.StatusCode, said.Message}
	}
	return res, nil
}

// ask is a call with a short answer, decoded into out unless that is nil.
func (d *Docker) ask(ctx context.Context, op, method, path string, query url.Values, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, dockerCall)
	defer cancel()
	res, err := d.call(ctx, op, method, path, query, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", op, err)
	}
	return nil
}

// dockerInfo is what /info says of a VCH.
type dockerInfo struct {
	Driver       string
	SystemStatus [][]string
}

// running reports whether the port layer behind the endpoint is.
func (i *dockerInfo) running() bool {
	return slices.ContainsFunc(i.SystemStatus, func(kv []string) bool { return len(kv) == 2 && kv[0] == i.Driver && kv[1] == "RUNNING" })
}

// stores returns the labels of the volume stores.
func (i *dockerInfo) stores() []string {
	for _, kv := range i.SystemStatus {
		if len(kv) == 2 && kv[0] == "VolumeStores" {
			return strings.Fields(kv[1])
		}
	}
	return nil
}

// probe asks the endpoint until it says that it runs.
func (r *upRun) probe(ctx context.Context, host string, certs *Certificates) error {
	t, err := certs.clientTLS()
	if err != nil {
		return err
	}
	d := NewDocker(host, t)
	defer d.Close()
	pause := 100 * time.Millisecond
	var last error
	for {
		var info dockerInfo
		// The path without a version is the one that VIC's installer asks.
		err := d.ask(ctx, "ask for /info", http.MethodGet, "/info", nil, nil, &info)
		if err == nil && info.running() {
			for _, v := range r.p.spec.Volumes {
				if !slices.Contains(info.stores(), v.Label) {
					r.on(Event{Kind: "finding", Text: fmt.Sprintf("the VCH does not offer the volume store %s", v.Label)})
				}
			}
			return nil
		}
		if err == nil {
			err = errors.New("the port layer behind it does not run yet")
		}
		if ctx.Err() == nil {
			last = err
		}
		if sleep(ctx, pause) != nil {
			return last
		}
		pause = min(2*pause, time.Second)
	}
}

// TestResult is what came of a container run through a VCH.
type TestResult struct {
	Image   string         `json:"image"`
	ID      string         `json:"id"`
	Output  string         `json:"output"`
	Exit    int            `json:"exit"`
	Machine *ContainerInfo `json:"containerVM"` // as the inventory shows it; nil: not found
	Removed bool           `json:"removed"`
}

// maxOutput is how much of a container's output is kept, in bytes.
const maxOutput = 1 << 20

// Test runs one container of an image, shows that it is a virtual machine, and
// removes it. The result is useful with an error too: it says how far it got.
// c may be nil; then nobody looks for the machine.
func (d *Docker) Test(ctx context.Context, c *esxi.Client, image string, on func(Event)) (*TestResult, error) {
	if on == nil {
		on = func(Event) {}
	}
	say := func(format string, args ...any) { on(Event{Kind: "step", Text: fmt.Sprintf(format, args...)}) }
	res := &TestResult{Image: image}
	const api = "/v" + DockerAPI
	say("pull %s", image)
	if err := d.patiently(ctx, on, "pull "+image, func(ctx context.Context) error { return d.pull(ctx, api, image) }); err != nil {
		return res, err
	}
	say("create a container")
	var made struct {
		ID string `json:"Id"`
	}
	if err := d.ask(ctx, "create a container of "+image, http.MethodPost, api+"/containers/create", nil, map[string]any{"Image": image, "Labels": map[string]string{"labctl": "test"}}, &made); err != nil {
		return res, err
	}
	res.ID = made.ID
	err := d.runTest(ctx, c, api, res, on, say)
	// It is removed also after an interrupt or a failure.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerCall)
	defer cancel()
	say("remove the container")
	gone := d.ask(clean, "remove the container", http.MethodDelete, api+"/containers/"+res.ID, url.Values{"force": {"1"}}, nil, nil)
	res.Removed = gone == nil
	return res, errors.Join(err, gone)
}

// patiently does what takes as long as an image or a container takes, tells of
// it, and gives it up in the end.
func (d *Docker) patiently(ctx context.Context, on func(Event), what string, do func(context.Context) error) error {
	limit := cmp.Or(d.Limit, taskLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &slowError{limit})
	defer cancel()
	stop := beat(func(so time.Duration) { on(Event{Kind: "waiting", Text: fmt.Sprintf("%s, after %v", what, so)}) })
	defer stop()
	err := do(ctx)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return err
}

func (d *Docker) runTest(ctx context.Context, c *esxi.Client, api string, res *TestResult, on func(Event), say func(string, ...any)) error {
	at := api + "/containers/" + res.ID
	say("start it")
	if err := d.ask(ctx, "start the container", http.MethodPost, at+"/start", nil, nil, nil); err != nil {
		return err
	}
	var end struct{ StatusCode int }
	err := d.patiently(ctx, on, "wait for the container", func(ctx context.Context) error {
		waited, err := d.call(ctx, "wait for the container", http.MethodPost, at+"/wait", nil, nil)
		if err != nil {
			return err
		}
		defer waited.Body.Close()
		if err := json.NewDecoder(waited.Body).Decode(&end); err != nil {
			return fmt.Errorf("wait for the container: read the answer: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	res.Exit = end.StatusCode
	ctx, cancel := context.WithTimeout(ctx, dockerCall)
	defer cancel()
	logs, err := d.call(ctx, "read the container's output", http.MethodGet, at+"/logs", url.Values{"stdout": {"1"}, "stderr": {"1"}}, nil)
	if err != nil {
		return err
	}
	res.Output, err = readStream(io.LimitReader(logs.Body, maxOutput))
	logs.Body.Close()
	if err != nil {
		return fmt.Errorf("read the container's output: %w", err)
	}
	if c == nil {
		return nil
	}
	say("look for its virtual machine")
	if res.Machine, err = findContainer(ctx, c, res.ID); err != nil {
		return err
	}
	if res.Machine == nil {
		return fmt.Errorf("no virtual machine in the inventory belongs to container %.12s", res.ID)
	}
	if res.Exit != 0 {
		return fmt.Errorf("the container ended with exit code %d", res.Exit)
	}
	return nil
}

// pull fetches an image. The endpoint answers with a stream of JSON objects,
// and a failure is one of them.
func (d *Docker) pull(ctx context.Context, api, image string) error {
	name, tag := image, "latest"
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		name, tag = image[:i], image[i+1:]
	}
	res, err := d.call(ctx, "pull "+image, http.MethodPost, api+"/images/create", url.Values{"fromImage": {name}, "tag": {tag}}, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var line struct{ Error string }
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("pull %s: read the answer: %w", image, err)
		}
		if line.Error != "" {
			return fmt.Errorf("pull %s: %s", image, line.Error)
		}
	}
}

// readStream joins the frames of Docker's multiplexed output: eight bytes of
// header, the last four of them the length. Output of a container with a
// terminal comes without frames.
func readStream(r io.Reader) (string, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for rest := all; len(rest) > 0; {
		if len(rest) < 8 || rest[0] > 2 || rest[1]|rest[2]|rest[3] != 0 {
			return string(all), nil
		}
		n := int(binary.BigEndian.Uint32(rest[4:8]))
		rest = rest[8:]
		n = min(n, len(rest))
		out.Write(rest[:n])
		rest = rest[n:]
	}
	return out.String(), nil
}
