package esxi

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// defaultCallTimeout bounds one API call whose caller set no deadline. The
// slowest ordinary read of a homelab takes a second or two.
const defaultCallTimeout = 60 * time.Second

// dialSlack lets a dial that has the same limit as the call be the one to say
// that nobody answered.
const dialSlack = 50 * time.Millisecond

// maxConns is how many connections one client keeps to its server: enough for
// the parallel edits of virtual machines, which go out eight at a time.
const maxConns = 8

// Endpoint names one vSphere API, how its certificate is proved, and who logs
// in. URL, User and Password are required.
type Endpoint struct {
	URL         *url.URL                              // https://host[:port]/sdk, see ParseURL
	User        string                                // as vSphere spells it: root, administrator@vsphere.local
	Password    func(context.Context) (Secret, error) // called once, after the certificate was accepted
	Thumbprint  string                                // pinned certificate, see ParseThumbprint; empty: this machine's authorities decide
	Insecure    bool                                  // accept any certificate; refused together with a Thumbprint
	DialTimeout time.Duration                         // TCP and TLS together; zero means 5 s
	CallTimeout time.Duration                         // longest wait for one answer; zero means 60 s, or what the caller allows
	On          func(Call)                            // told of each finished API call; may be nil
}

// Call is one finished API call, for a trace. It never holds arguments.
type Call struct {
	Host   string // host:port
	Method string // as in RetrievePropertiesEx
	Took   time.Duration
	Err    error
}

// ParseURL reads a vSphere address as people write it: the scheme defaults to
// https, the path to /sdk, and a user before the @ is returned apart. Other
// schemes and a password in the URL are errors; the text of the error does not
// repeat the URL, which may hold that password.
func ParseURL(s string) (*url.URL, string, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, "", errors.New("not a URL of the form https://[user@]host[:port][/sdk]")
	}
	if u.Scheme != "https" {
		return nil, "", fmt.Errorf("scheme %s is not supported: vSphere's API is https", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, "", errors.New("the URL names no host")
	}
	user := ""
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return nil, "", errors.New("a password in a URL ends up in shell histories and process lists")
		}
		user = u.User.Username()
	}
	path := strings.TrimSuffix(u.Path, "/")
	if path == "" {
		path = "/sdk"
	}
	return &url.URL{Scheme: "https", Host: u.Host, Path: path}, user, nil
}

// LoginError says that the server refused the user or the password.
type LoginError struct {
	Host, User string
	Err        error
}

func (e *LoginError) Error() string {
	return fmt.Sprintf("%s refuses the login of %s: %v", e.Host, e.User, e.Err)
}

func (e *LoginError) Unwrap() error { return e.Err }

// Client is a logged-in session. Its Vim client sends each call with a
// deadline, counts it, and returns refusals as *CallError.
type Client struct {
	Vim      *vim25.Client
	endpoint *Endpoint
	requests *atomic.Int64
	shown    *atomic.Pointer[x509.Certificate]
	warm     chan net.Conn // opened ahead by Warm
}

// Dial connects, proves the certificate, and logs in: two API calls.
func Dial(ctx context.Context, e *Endpoint) (*Client, error) {
	if e.Insecure && e.Thumbprint != "" {
		return nil, errors.New("a pinned certificate and insecure exclude each other: insecure would ignore the pin")
	}
	if e.Thumbprint != "" {
		want, err := ParseThumbprint(e.Thumbprint)
		if err != nil {
			return nil, err
		}
		pinned := *e
		pinned.Thumbprint = want
		e = &pinned
	}
	c := newClient(e, new(atomic.Int64))
	if err := c.login(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) login(ctx context.Context) error {
	e := c.endpoint
	sc, err := methods.GetServiceContent(ctx, c.Vim)
	if err != nil {
		return err
	}
	c.Vim.ServiceContent = sc
	if sc.SessionManager == nil {
		return fmt.Errorf("%s answers, but offers no login: is it a vSphere API?", hostPort(e.URL))
	}
	password, err := e.Password(ctx)
	if err != nil {
		return err
	}
	_, err = methods.Login(ctx, c.Vim, &types.Login{This: *sc.SessionManager, UserName: e.User, Password: password.Reveal()})
	var bad *types.InvalidLogin
	if _, ok := fault.As(err, &bad); ok {
		return &LoginError{Host: hostPort(e.URL), User: e.User, Err: errors.New("user name or password is wrong")}
	}
	return err
}

// newClient builds the client without sending anything.
func newClient(e *Endpoint, requests *atomic.Int64) *Client {
	sc := soap.NewClient(e.URL, false)
	config := e.tlsConfig()
	t := sc.DefaultTransport()
	t.TLSClientConfig = config // for a connection through a proxy, which DialTLSContext does not see
	warm := make(chan net.Conn, maxConns)
	t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case conn := <-warm:
			return conn, nil
		default:
			return e.handshake(ctx, config)
		}
	}
	t.MaxIdleConnsPerHost = maxConns
	shown := new(atomic.Pointer[x509.Certificate])
	sc.Client.Transport = counter{t, requests, shown}
	sc.UserAgent = "labctl"
	sc.Namespace, sc.Version = "urn:"+vim25.Namespace, vim25.Version
	return &Client{
		Vim:      &vim25.Client{Client: sc, RoundTripper: &caller{sc, e}},
		endpoint: e,
		requests: requests,
		shown:    shown,
		warm:     warm,
	}
}

// Warm opens up to n connections ahead, for calls that will go out side by side
// when a round trip counts: TCP and TLS take three of them. Nothing is sent over
// them yet, and one that cannot be opened is opened later, by who needs it.
func (c *Client) Warm(ctx context.Context, n int) {
	var wg sync.WaitGroup
	config := c.endpoint.tlsConfig()
	for range min(n, cap(c.warm)-len(c.warm)) {
		wg.Go(func() {
			conn, err := c.endpoint.handshake(ctx, config)
			if err != nil {
				return
			}
			select {
			case c.warm <- conn:
			default:
				conn.Close()
			}
		})
	}
	wg.Wait()
}

// Fresh returns a client of the same session over new connections: after a
// network change the old ones may be black holes. It sends nothing by itself.
// Requests of both are counted together.
func (c *Client) Fresh() *Client {
	f := newClient(c.endpoint, c.requests)
	f.Vim.ServiceContent = c.Vim.ServiceContent
	f.Vim.Version = c.Vim.Version
	jar, _ := cookiejar.New(nil) // fails only for a bad option, and there are none
	jar.SetCookies(c.endpoint.URL, c.Vim.Jar.Cookies(c.endpoint.URL))
	f.Vim.Jar = jar
	return f
}

// TryLogin reports whether the server lets somebody else in: it logs in, and out
// again, beside the session, and counts with it.
func (c *Client) TryLogin(ctx context.Context, user string, password Secret) error {
	e := *c.endpoint
	e.User, e.Password = user, func(context.Context) (Secret, error) { return password, nil }
	other := newClient(&e, c.requests)
	if err := other.login(ctx); err != nil {
		other.Close()
		return err
	}
	return other.Logout(ctx)
}

// Close drops the client's connections and leaves its session alone.
func (c *Client) Close() {
	c.Vim.CloseIdleConnections()
	for {
		select {
		case conn := <-c.warm:
			conn.Close()
		default:
			return
		}
	}
}

// Logout ends the session and drops the connections. Nothing depends on its
// success: a session that nobody uses ends by itself.
func (c *Client) Logout(ctx context.Context) error {
	defer c.Close()
	_, err := methods.Logout(ctx, c.Vim, &types.Logout{This: *c.Vim.ServiceContent.SessionManager})
	return err
}

// Endpoint returns what the client was dialled with.
func (c *Client) Endpoint() *Endpoint { return c.endpoint }

// Requests returns how many HTTP requests the session has sent so far.
func (c *Client) Requests() int { return int(c.requests.Load()) }

// IsVCenter reports whether the other side is a vCenter, not a host.
func (c *Client) IsVCenter() bool { return c.Vim.IsVC() }

// Certificate returns the certificate that the server proved itself with, nil
// before its first answer.
func (c *Client) Certificate() *x509.Certificate { return c.shown.Load() }

// counter counts requests where they leave: below it there is only the wire.
type counter struct {
	http.RoundTripper
	n     *atomic.Int64
	shown *atomic.Pointer[x509.Certificate]
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	res, err := c.RoundTripper.RoundTrip(r)
	if err == nil && res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		c.shown.Store(res.TLS.PeerCertificates[0])
	}
	return res, err
}

// CallError is an API call that failed. Refused says that the server answered
// with a fault: then it knows of the call, and nothing else is unclear. Not
// Refused means that no answer came, and the call may have been carried out.
type CallError struct {
	Host    string
	Method  string
	Refused bool
	Fault   string // type of the fault, as in ResourceInUse; "" when not Refused
	Text    string // what the server or the network said, on one line
	Err     error
}

func (e *CallError) Error() string {
	if e.Refused {
		return fmt.Sprintf("%s refuses %s: %s", e.Host, e.Method, e.Text)
	}
	return fmt.Sprintf("no answer from %s to %s: %s", e.Host, e.Method, e.Text)
}

func (e *CallError) Unwrap() error { return e.Err }

// caller gives each call a deadline, plain words and a line in the trace.
type caller struct {
	sc *soap.Client
	e  *Endpoint
}

func (c *caller) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	method := strings.TrimSuffix(reflect.TypeOf(req).Elem().Name(), "Body")
	// The answer to WaitForUpdatesEx is late by design.
	if _, ok := ctx.Deadline(); !ok || c.e.CallTimeout > 0 && method != "WaitForUpdatesEx" {
		var cancel context.CancelFunc
		limit := cmp.Or(c.e.CallTimeout, defaultCallTimeout)
		if limit == c.e.DialTimeout {
			limit += dialSlack
		}
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	start := time.Now()
	err := c.plain(method, c.sc.RoundTrip(ctx, req, res))
	if c.e.On != nil {
		c.e.On(Call{Host: hostPort(c.e.URL), Method: method, Took: time.Since(start), Err: err})
	}
	return err
}

// plain turns an error of govmomi or net/http into one that can be shown.
func (c *caller) plain(method string, err error) error {
	if err == nil {
		return nil
	}
	var (
		pin       *PinError
		untrusted *UntrustedError
		dial      *DialError
	)
	switch {
	case errors.As(err, &pin):
		return pin
	case errors.As(err, &untrusted):
		return untrusted
	case errors.As(err, &dial):
		return dial
	}
	e := &CallError{Host: hostPort(c.e.URL), Method: method, Err: err}
	if soap.IsSoapFault(err) {
		e.Refused = true
		f := soap.ToSoapFault(err)
		e.Fault, e.Text = faultWords(f.VimFault(), f.String)
		return e
	}
	var out *url.Error
	if errors.As(err, &out) {
		err = out.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Text = "its time-out passed"
	case errors.Is(err, context.Canceled):
		e.Text = "interrupted"
	default:
		e.Text = oneLine(plainNetError(err).Error())
	}
	return e
}

// FaultWords returns the type name of a task's fault and one line that says
// what the server objected to, its cause included.
func FaultWords(f *types.LocalizedMethodFault) (name, text string) {
	if f == nil {
		return "", ""
	}
	return faultWords(f.Fault, f.LocalizedMessage)
}

// faultWords digs for the cause: vpxd wraps what a host said in a fault whose
// own message is "see faultCause".
func faultWords(f types.AnyType, message string) (name, text string) {
	message = strings.TrimPrefix(oneLine(message), "*types.") // how vcsim says a fault without words of its own
	v := reflect.Indirect(reflect.ValueOf(f))
	if v.IsValid() && v.Kind() == reflect.Struct {
		name = v.Type().Name()
	}
	switch {
	case name == "" && message == "":
		return "", "an unknown fault"
	case name == "" || strings.Contains(message, name):
		text = message
	case message == "":
		text = name
	default:
		text = message + " (" + name + ")"
	}
	base, ok := f.(types.BaseMethodFault)
	if !ok && v.IsValid() && v.CanInterface() {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		base, ok = p.Interface().(types.BaseMethodFault)
	}
	if !ok {
		return name, text
	}
	for _, why := range causes(base) {
		if why != "" && !strings.Contains(text, why) {
			text += ": " + why
		}
	}
	return name, text
}

// causes collects what a fault says beside its message. The words that tell a
// person what to do are in different places: a property of their own, the
// fault of a single host, the fault that caused this one.
func causes(f types.BaseMethodFault) (out []string) {
	switch f := f.(type) {
	case *types.SystemError:
		out = append(out, oneLine(f.Reason))
	case *types.PlatformConfigFault:
		out = append(out, oneLine(f.Text))
	case *types.InvalidArgument:
		out = append(out, f.InvalidProperty)
	case *types.GenericVmConfigFault:
		out = append(out, oneLine(f.Reason))
	case *types.DvsOperationBulkFault:
		for _, h := range f.HostFault {
			_, why := faultWords(h.Fault.Fault, h.Fault.LocalizedMessage)
			out = append(out, why)
		}
	}
	if cause := f.GetMethodFault().FaultCause; cause != nil {
		_, why := faultWords(cause.Fault, cause.LocalizedMessage)
		out = append(out, why)
	}
	return out
}

// oneLine keeps messages printable on one line of a terminal.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
