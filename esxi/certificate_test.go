package esxi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
)

// newCert makes a self-signed certificate for loopback that ends at until.
func newCert(t *testing.T, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: "esxi"},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func validCert(t *testing.T) tls.Certificate { return newCert(t, time.Now().Add(24*time.Hour)) }

// server is a TLS server on loopback that answers as much of the API as a login
// takes, and counts what arrives.
type server struct {
	*httptest.Server
	cert  atomic.Pointer[tls.Certificate]
	conns atomic.Int64                 // open connections
	last  atomic.Pointer[http.Request] // the latest request
	calls atomic.Int64
	hook  func(w http.ResponseWriter, method string) bool // true: it has answered
}

func newServer(t *testing.T, cert tls.Certificate) *server {
	t.Helper()
	s := &server{}
	s.cert.Store(&cert)
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Add(-1)
		}
	}
	s.TLS = &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{*s.cert.Load()}}, nil
		},
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

var answers = map[string]string{
	"RetrieveServiceContent": `<returnval><rootFolder type="Folder">ha-folder-root</rootFolder><propertyCollector type="PropertyCollector">pc</propertyCollector>` +
		`<about><name>ESXi</name><fullName>ESXi</fullName><vendor>x</vendor><version>8.0</version><build>1</build><osType>x</osType>` +
		`<productLineId>esx</productLineId><apiType>HostAgent</apiType><apiVersion>8.0</apiVersion></about>` +
		`<sessionManager type="SessionManager">ha-sessionmgr</sessionManager></returnval>`,
	"Login": `<returnval><key>k</key><userName>root</userName><fullName>root</fullName><loginTime>2020-01-01T00:00:00Z</loginTime>` +
		`<lastActiveTime>2020-01-01T00:00:00Z</lastActiveTime><locale>en</locale><messageLocale>en</messageLocale></returnval>`,
	"CurrentTime": `<returnval>2020-01-01T00:00:00Z</returnval>`,
	"Logout":      ``,
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.calls.Add(1)
	s.last.Store(r)
	for method, answer := range answers {
		if !strings.Contains(string(body), "<"+method+" ") {
			continue
		}
		if s.hook != nil && s.hook(w, method) {
			return
		}
		if method == "Login" {
			http.SetCookie(w, &http.Cookie{Name: "vmware_soap_session", Value: "s3ss10n", Path: "/", Secure: true, HttpOnly: true})
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>`+
			`<%[1]sResponse xmlns="urn:vim25">%[2]s</%[1]sResponse></soapenv:Body></soapenv:Envelope>`, method, answer)
		return
	}
	http.Error(w, "what?", http.StatusNotFound)
}

// endpoint names the server, and asked tells how often it wanted the password.
func (s *server) endpoint(t *testing.T) (e *Endpoint, asked *int) {
	t.Helper()
	u, user, err := ParseURL("https://root@" + s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	asked = new(int)
	return &Endpoint{URL: u, User: user, Password: func(context.Context) (Secret, error) {
		*asked++
		return NewSecret("hunter2"), nil
	}}, asked
}

// eventually waits for what happens in another goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// What certificate a login accepts, and that nothing is said before it has.
func TestDialCertificate(t *testing.T) {
	valid, expired, other := validCert(t), newCert(t, time.Now().Add(-time.Hour)), validCert(t)
	for _, tc := range []struct {
		name     string
		cert     tls.Certificate
		pin      string
		insecure bool
		want     any // a pointer to the type of the error, a part of its text, or nil
	}{
		{"pinned, SHA-256", valid, SHA256Fingerprint(valid.Leaf), false, nil},
		{"pinned, SHA-1", valid, SHA1Fingerprint(valid.Leaf), false, nil},
		{"pinned in other letters", valid, strings.ToLower(strings.ReplaceAll(SHA256Fingerprint(valid.Leaf), ":", "")), false, nil},
		{"pinned and expired", expired, SHA256Fingerprint(expired.Leaf), false, nil},
		{"another one pinned, SHA-256", valid, SHA256Fingerprint(other.Leaf), false, new(*PinError)},
		{"another one pinned, SHA-1", valid, SHA1Fingerprint(other.Leaf), false, new(*PinError)},
		{"nothing pinned", valid, "", false, new(*UntrustedError)},
		{"nothing pinned, expired", expired, "", false, new(*UntrustedError)},
		{"insecure", valid, "", true, nil},
		{"insecure, expired", expired, "", true, nil},
		{"insecure and the right pin", valid, SHA256Fingerprint(valid.Leaf), true, "exclude each other"},
		{"insecure and a wrong pin", valid, SHA256Fingerprint(other.Leaf), true, "exclude each other"},
		{"no pin at all", valid, "AB:CD", false, "neither 32 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.cert)
			e, asked := s.endpoint(t)
			e.Thumbprint, e.Insecure = tc.pin, tc.insecure
			c, err := Dial(t.Context(), e)
			switch want := tc.want.(type) {
			case nil:
				if err != nil {
					t.Fatal(err)
				}
				if *asked != 1 {
					t.Errorf("asked for the password %d times", *asked)
				}
				if err := c.Logout(t.Context()); err != nil {
					t.Error(err)
				}
				return
			case string:
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want %q", err, want)
				}
			default:
				if !errors.As(err, want) {
					t.Fatalf("got %T %v, want %T", err, err, want)
				}
			}
			if n := s.calls.Load(); n != 0 || *asked != 0 {
				t.Errorf("refused, but %d requests were sent and the password was asked for %d times", n, *asked)
			}
			eventually(t, "the connections are closed", func() bool { return s.conns.Load() == 0 })
		})
	}
}

// A pin is checked on each connection, not once for a session.
func TestPinOnEveryConnection(t *testing.T) {
	first := validCert(t)
	s := newServer(t, first)
	e, _ := s.endpoint(t)
	e.Thumbprint = SHA256Fingerprint(first.Leaf)
	c, err := Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	before := s.calls.Load()
	second := validCert(t)
	s.cert.Store(&second)
	s.CloseClientConnections()
	c.Close()
	for name, c := range map[string]*Client{"same client": c, "fresh client": c.Fresh()} {
		_, err = methods.GetCurrentTime(t.Context(), c.Vim)
		var pin *PinError
		if !errors.As(err, &pin) || pin.Got != SHA256Fingerprint(second.Leaf) || pin.Want != e.Thumbprint {
			t.Errorf("%s: got %v, want a PinError", name, err)
		}
	}
	if err := Knock(t.Context(), c.Endpoint()); !errors.As(err, new(*PinError)) {
		t.Errorf("Knock: got %v, want a PinError", err)
	}
	if n := s.calls.Load(); n != before {
		t.Errorf("%d requests, the session's cookie with them, went to another machine", n-before)
	}
}

// A resumed session is no way around the pin, whoever resumes it.
func TestPinOnResumption(t *testing.T) {
	cert, other := validCert(t), validCert(t)
	s := newServer(t, cert)
	cache := tls.NewLRUClientSessionCache(1)
	connect := func(pin string) (resumed bool, err error) {
		e, _ := s.endpoint(t)
		e.Thumbprint = pin
		config := e.tlsConfig()
		config.ClientSessionCache = cache
		conn, err := e.handshake(t.Context(), config)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		// TLS 1.3 sends tickets after the handshake: they arrive with the answer.
		fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
		if _, err := io.ReadAll(conn); err != nil {
			return false, err
		}
		return conn.ConnectionState().DidResume, nil
	}
	right := SHA256Fingerprint(cert.Leaf)
	if _, err := connect(right); err != nil {
		t.Fatal(err)
	}
	if resumed, err := connect(right); err != nil || !resumed {
		t.Fatalf("resumed %t, %v: the test shows nothing", resumed, err)
	}
	if _, err := connect(SHA256Fingerprint(other.Leaf)); !errors.As(err, new(*PinError)) {
		t.Errorf("got %v, want a PinError", err)
	}
}

// A proxy's tunnel does not come through DialTLSContext: the pin must hold
// there too.
func TestPinThroughProxy(t *testing.T) {
	cert := validCert(t)
	s := newServer(t, cert)
	tunnels := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels++
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		var both sync.WaitGroup
		both.Go(func() { io.Copy(to, buf); to.Close() })
		both.Go(func() { io.Copy(conn, to); conn.Close() })
		both.Wait()
	}))
	defer proxy.Close()
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		pin  string
		want any
	}{
		{"right", SHA256Fingerprint(cert.Leaf), nil},
		{"wrong", SHA256Fingerprint(validCert(t).Leaf), new(*PinError)},
		{"wrong, SHA-1", SHA1Fingerprint(validCert(t).Leaf), new(*PinError)},
		{"none", "", new(*UntrustedError)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, _ := s.endpoint(t)
			e.Thumbprint = tc.pin
			c := newClient(e, new(atomic.Int64))
			defer c.Close()
			c.Vim.Client.Client.Transport.(counter).RoundTripper.(*http.Transport).Proxy = http.ProxyURL(through)
			before := tunnels
			_, err := methods.GetServiceContent(t.Context(), c.Vim)
			if tunnels == before {
				t.Fatal("it did not go through the proxy")
			}
			if tc.want == nil && err != nil || tc.want != nil && !errors.As(err, tc.want) {
				t.Errorf("got %v, want %T", err, tc.want)
			}
		})
	}
}

// silent accepts connections and says nothing, as a host does whose kernel
// lives and whose agents do not.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	})
	t.Cleanup(func() {
		ln.Close()
		done.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return ln.Addr().String()
}

// A half-dead host costs the dial time-out and nothing more, with no deadline in
// the context, and leaves no goroutine behind.
func TestHalfDeadHost(t *testing.T) {
	u, _, err := ParseURL(silent(t))
	if err != nil {
		t.Fatal(err)
	}
	e := &Endpoint{URL: u, User: "root", Insecure: true, DialTimeout: 50 * time.Millisecond}
	before := runtime.NumGoroutine()
	for name, f := range map[string]func() error{
		"Dial":             func() error { _, err := Dial(context.Background(), e); return err },
		"Knock":            func() error { return Knock(context.Background(), e) },
		"FetchCertificate": func() error { _, err := FetchCertificate(context.Background(), e); return err },
	} {
		for range 5 {
			err := f()
			var dial *DialError
			if !errors.As(err, &dial) || !dial.Timeout || dial.After != e.DialTimeout {
				t.Errorf("%s: got %v, want a DialError by time-out", name, err)
			}
		}
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

// A context that ends earlier wins over the dial time-out, and says so.
func TestDialInterrupted(t *testing.T) {
	u, _, err := ParseURL(silent(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Knock(ctx, &Endpoint{URL: u, Insecure: true, DialTimeout: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	u, _, err := ParseURL(addr)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dial(t.Context(), &Endpoint{URL: u, User: "root", Insecure: true})
	var dial *DialError
	if !errors.As(err, &dial) || dial.Timeout || strings.Count(err.Error(), addr) != 1 {
		t.Errorf("got %v, want a DialError that names the address once", err)
	}
}

// FetchCertificate shows what is there, trusted or not, and asks for nothing.
func TestFetchCertificate(t *testing.T) {
	cert := newCert(t, time.Now().Add(-time.Hour))
	s := newServer(t, cert)
	e, asked := s.endpoint(t)
	e.Thumbprint = SHA256Fingerprint(validCert(t).Leaf)
	got, err := FetchCertificate(t.Context(), e)
	if err != nil || !got.Equal(cert.Leaf) {
		t.Errorf("got another certificate, %v", err)
	}
	if *asked != 0 || s.calls.Load() != 0 {
		t.Error("it was more than a look")
	}
}

func TestParseThumbprint(t *testing.T) {
	sum := validCert(t)
	long, short := SHA256Fingerprint(sum.Leaf), SHA1Fingerprint(sum.Leaf)
	for in, want := range map[string]string{
		long: long, short: short,
		strings.ToLower(long): long, strings.ReplaceAll(short, ":", ""): short, strings.ReplaceAll(long, ":", " "): long,
		"": "", "AA": "", long + ":AA": "", long[:len(long)-3]: "", "zz" + long[2:]: "", long[:len(long)-1]: "", short + short: "",
	} {
		got, err := ParseThumbprint(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"https://nuc01": "nuc01:443", "https://nuc01:8443": "nuc01:8443", "https://[::1]": "[::1]:443", "https://[::1]:8443": "[::1]:8443", "https://nuc01:": "nuc01:443",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPort(u); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// The password goes out once, in the login, and to nobody before that.
func TestPasswordThatCannotBeHad(t *testing.T) {
	cert := validCert(t)
	s := newServer(t, cert)
	e, _ := s.endpoint(t)
	e.Thumbprint = SHA256Fingerprint(cert.Leaf)
	gone := errors.New("the vault is locked")
	e.Password = func(context.Context) (Secret, error) { return Secret{}, gone }
	if _, err := Dial(t.Context(), e); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("%d requests, want the one before the login", n)
	}
	eventually(t, "the connection is closed", func() bool { return s.conns.Load() == 0 })
}

// A server that dies in mid-answer has not refused anything: the call may have
// been carried out, and the error says no more than that no answer came.
func TestAnswerCutOff(t *testing.T) {
	cert := validCert(t)
	for name, cut := range map[string]func(net.Conn){
		"before the answer":      func(net.Conn) {},
		"in the header":          func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Ty") },
		"in the body":            func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<soapenv:Env") },
		"with another protocol":  func(c net.Conn) { io.WriteString(c, "220 mail.lab.local ESMTP\r\n") },
		"with an empty answer":   func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") },
		"with a web page":        func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>") },
		"with a proxy's failure": func(c net.Conn) { io.WriteString(c, "HTTP/1.1 503 Gone\r\nContent-Length: 0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, cert)
			e, _ := s.endpoint(t)
			e.Thumbprint = SHA256Fingerprint(cert.Leaf)
			c, err := Dial(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s.hook = func(w http.ResponseWriter, _ string) bool {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					cut(conn)
					conn.Close()
				}
				return true
			}
			before := s.calls.Load()
			_, err = methods.GetCurrentTime(t.Context(), c.Vim)
			var call *CallError
			if !errors.As(err, &call) || call.Refused || call.Fault != "" || call.Method != "CurrentTime" {
				t.Fatalf("got %T %v, want a CallError that is not Refused", err, err)
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("more than a line: %q", err)
			}
			if n := s.calls.Load() - before; n != 1 {
				t.Errorf("the call was sent %d times", n)
			}
		})
	}
}

// A call has a deadline; without an answer by then it is not Refused either.
func TestCallTimesOut(t *testing.T) {
	cert := validCert(t)
	s := newServer(t, cert)
	e, _ := s.endpoint(t)
	e.Thumbprint = SHA256Fingerprint(cert.Leaf)
	c, err := Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stuck := make(chan struct{})
	s.hook = func(http.ResponseWriter, string) bool { <-stuck; return false }
	defer close(stuck)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = methods.GetCurrentTime(ctx, c.Vim)
	var call *CallError
	if !errors.As(err, &call) || call.Refused || call.Text != "its time-out passed" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A refusal is a Refused CallError with the fault's name.
func TestRefusal(t *testing.T) {
	cert := validCert(t)
	s := newServer(t, cert)
	e, _ := s.endpoint(t)
	e.Thumbprint = SHA256Fingerprint(cert.Leaf)
	var seen []Call
	e.On = func(c Call) { seen = append(seen, c) }
	c, err := Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.hook = func(w http.ResponseWriter, _ string) bool {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`+
			`<soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>The session is not authenticated.</faultstring>`+
			`<detail><NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated"><object type="Folder">f</object><privilegeId>x</privilegeId></NotAuthenticatedFault></detail>`+
			`</soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
		return true
	}
	_, err = methods.GetCurrentTime(t.Context(), c.Vim)
	var call *CallError
	if !errors.As(err, &call) || !call.Refused || call.Fault != "NotAuthenticated" || call.Text != "The session is not authenticated. (NotAuthenticated)" {
		t.Errorf("got %#v", err)
	}
	var told []string
	for _, c := range seen {
		told = append(told, fmt.Sprint(c.Method, " ", c.Err != nil))
	}
	if got, want := strings.Join(told, ", "), "RetrieveServiceContent false, Login false, CurrentTime true"; got != want {
		t.Errorf("told of %s, want %s", got, want)
	}
	if n := c.Requests(); n != 3 {
		t.Errorf("%d requests counted, want 3", n)
	}
}

// Fresh is the same session over another connection; what both send is counted
// together.
func TestFresh(t *testing.T) {
	cert := validCert(t)
	s := newServer(t, cert)
	e, asked := s.endpoint(t)
	e.Thumbprint = strings.ToLower(SHA1Fingerprint(cert.Leaf))
	old, err := Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	from := s.last.Load().RemoteAddr
	if _, err := methods.GetCurrentTime(t.Context(), old.Vim); err != nil {
		t.Fatal(err)
	}
	if again := s.last.Load().RemoteAddr; again != from {
		t.Fatalf("the same client used another connection: %s, %s", from, again)
	}
	fresh := old.Fresh()
	defer fresh.Close()
	if n := s.calls.Load(); n != 3 || old.Requests() != 3 {
		t.Errorf("Fresh itself sent something: %d requests, %d counted", n, old.Requests())
	}
	for range 2 {
		if _, err := methods.GetCurrentTime(t.Context(), fresh.Vim); err != nil {
			t.Fatal(err)
		}
	}
	r := s.last.Load()
	if r.RemoteAddr == from {
		t.Error("the connection is the old one")
	}
	if cookie, err := r.Cookie("vmware_soap_session"); err != nil || cookie.Value != "s3ss10n" {
		t.Errorf("the session was lost: %v %v", cookie, err)
	}
	if *asked != 1 {
		t.Errorf("asked for the password %d times", *asked)
	}
	if old.Requests() != 5 || fresh.Requests() != 5 {
		t.Errorf("%d and %d requests counted, want 5 in all", old.Requests(), fresh.Requests())
	}
	if fresh.IsVCenter() || fresh.Vim.ServiceContent.About.ApiType != "HostAgent" {
		t.Error("Fresh forgot what it talks to")
	}
	if twice := fresh.Fresh(); twice.Vim.ServiceContent.SessionManager == nil {
		t.Error("Fresh of Fresh forgot what it talks to")
	}
}

// Warm opens connections and sends nothing over them; calls that go out side by
// side find them, and no pin is spared.
func TestWarm(t *testing.T) {
	cert := validCert(t)
	s := newServer(t, cert)
	e, _ := s.endpoint(t)
	e.Thumbprint = SHA256Fingerprint(cert.Leaf)
	c, err := Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Warm(t.Context(), -1)
	c.Warm(t.Context(), 2)
	eventually(t, "two more are open", func() bool { return s.conns.Load() == 3 })
	if n := s.calls.Load(); n != 2 || c.Requests() != 2 {
		t.Errorf("%d requests, %d counted", n, c.Requests())
	}
	// Three calls that wait for each other need three connections: there are.
	var together sync.WaitGroup
	together.Add(3)
	s.hook = func(http.ResponseWriter, string) bool { together.Done(); together.Wait(); return false }
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			if _, err := methods.GetCurrentTime(t.Context(), c.Vim); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if n := s.conns.Load(); n != 3 {
		t.Errorf("%d connections are open", n)
	}
	s.hook = nil

	other := validCert(t)
	s.cert.Store(&other)
	f := c.Fresh()
	f.Warm(t.Context(), 4)
	if _, err := methods.GetCurrentTime(t.Context(), f.Vim); !errors.As(err, new(*PinError)) {
		t.Errorf("got %v, want a PinError", err)
	}
	s.cert.Store(&cert)
	f.Warm(t.Context(), 100)
	eventually(t, "as many as are kept are open", func() bool { return s.conns.Load() == 3+maxConns })
	f.Close()
	c.Close()
	eventually(t, "all are closed", func() bool { return s.conns.Load() == 0 })
}
