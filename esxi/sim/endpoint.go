package sim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// endpoint is one address of the lab: a certificate, a wire and the inventory that is behind it at the moment.
type endpoint struct {
	lab      *Lab
	host     string // "" for the vCenter
	user     string
	password string
	cert     tls.Certificate
	gate     *gate
	server   *http.Server
	current  atomic.Pointer[served]
	sessions sync.Map // keys of the sessions whose cookies came by
	pass     pass
}

// served is an inventory behind an endpoint.
type served struct {
	site    *site
	in      *inventory
	handler http.Handler
}

// expel ends all sessions, as the end of hostd does.
func (e *endpoint) expel() {
	in := e.current.Load().in
	e.sessions.Range(func(key, _ any) bool {
		e.sessions.Delete(key)
		// One that has logged out is not found, which is as well.
		in.reg.SessionManager().TerminateSession(in.context(), &types.TerminateSession{SessionId: []string{key.(string)}})
		return true
	})
	e.gate.reset()
}

// path is how faults and counts name the endpoint's kind.
func (e *endpoint) path() string {
	if e.host != "" {
		return "esxi"
	}
	return "vcenter"
}

func newEndpoint(l *Lab, host, addr string) (*endpoint, error) {
	e := &endpoint{lab: l, host: host, user: "administrator@vsphere.local"}
	name := "vcenter"
	if host != "" {
		e.user, name = "root", host
	}
	var err error
	if e.password, err = secret(); err != nil {
		return nil, err
	}
	if e.cert, err = selfSigned(name); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", name, err)
	}
	e.gate = newGate(ln)
	e.server = &http.Server{
		Handler:           e,
		ErrorLog:          log.New(io.Discard, "", 0), // handshakes that a gate cut are not worth a word
		ReadHeaderTimeout: time.Minute,
	}
	return e, nil
}

func (e *endpoint) serve() {
	tlsListener := tls.NewListener(e.gate, &tls.Config{Certificates: []tls.Certificate{e.cert}, NextProtos: []string{"http/1.1"}})
	_ = e.server.Serve(tlsListener) // ends with ErrServerClosed
}

func (e *endpoint) addr() string { return e.gate.Addr().String() }
func (e *endpoint) url() string  { return "https://" + e.addr() + vim25.Path }

// thumbprint is the SHA-256 of the endpoint's certificate in colon hex.
func (e *endpoint) thumbprint() string {
	sum := sha256.Sum256(e.cert.Certificate[0])
	return colonHex(sum[:])
}

// sha1 is the SHA-1 of the endpoint's certificate in colon hex, the form that vSphere itself uses.
func (e *endpoint) sha1() string {
	sum := sha1.Sum(e.cert.Certificate[0])
	return colonHex(sum[:])
}

func colonHex(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}

// ServeHTTP counts a request, lets the armed faults have it, and hands it to vcsim. The answer is kept back until it
// is whole, so that a request can be carried out and its answer lost.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cur := e.current.Load()
	if strings.HasPrefix(r.URL.Path, folderPath) {
		e.serveFiles(w, r, cur)
		return
	}
	life := cur.site.life.Load() // whose end also ends the requests in flight
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	call := methodOf(r, body)
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		e.sessions.Store(c.Value, nil)
	}
	strikes := e.lab.faults.request(e.path(), call)
	e.lab.count(e.path(), call)

	rtt := strikes.delay / 2
	if life.sleep(rtt) != nil || !e.held(strikes.before, r, life) || strikes.dropBefore {
		cut(w)
		return
	}
	answer := newAnswer()
	if strikes.fault != nil {
		writeFault(answer, strikes.fault)
	} else {
		cur.process(life, answer, r, body, call)
		e.pass.follow(call, r, answer.header)
	}
	if life.sleep(strikes.delay-rtt) != nil || !e.held(strikes.after, r, life) || strikes.dropAfter {
		cut(w)
		return
	}
	answer.writeTo(w)
}

// process lets vcsim do its part. Property reads see one world; a wait for updates ends when its client or its lab does.
func (cur *served) process(life *life, answer *answer, r *http.Request, body []byte, call string) {
	if !strings.HasPrefix(r.URL.Path, vim25.Path) && r.Method != http.MethodGet && r.Method != http.MethodHead {
		cur.site.touched.Store(true) // a file
	}
	switch call {
	case "RetrieveProperties", "RetrievePropertiesEx", "ContinueRetrievePropertiesEx":
		cur.site.mu.RLock()
		defer cur.site.mu.RUnlock()
		cur.handler.ServeHTTP(answer, r)
	case "WaitForUpdatesEx", "WaitForUpdates":
		done := make(chan struct{})
		again := r.Clone(r.Context()) // now, since serving writes to the request
		go func() {
			defer close(done)
			cur.handler.ServeHTTP(answer, r)
		}()
		select {
		case <-done:
			return
		case <-r.Context().Done():
		case <-life.ctx.Done():
		}
		cancelWait(cur.handler, again, body)
		<-done
	default:
		cur.handler.ServeHTTP(answer, r)
	}
}

// cancelWait ends a wait whose client has gone; vcsim would wait on, for ever if no time-out was given. req is a copy of
// the request that waits, whose cookie names the session.
func cancelWait(h http.Handler, req *http.Request, body []byte) {
	const tag = `<CancelWaitForUpdates xmlns="urn:vim25">%s</CancelWaitForUpdates>`
	_, rest, ok := bytes.Cut(body, []byte("<_this"))
	this, _, ok2 := bytes.Cut(rest, []byte("</_this>"))
	if !ok || !ok2 {
		return
	}
	env := `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>` +
		fmt.Sprintf(tag, "<_this"+string(this)+"</_this>") + `</Body></Envelope>`
	req.Body = io.NopCloser(strings.NewReader(env))
	h.ServeHTTP(newAnswer(), req)
}

// methodOf names a request: the SOAP method, or the HTTP method and first path element of other requests.
func methodOf(r *http.Request, body []byte) string {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, vim25.Path) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		return r.Method + " /" + first
	}
	dec := xml.NewDecoder(bytes.NewReader(body))
	for inBody := false; ; {
		tok, err := dec.Token()
		if err != nil {
			return "?"
		}
		start, ok := tok.(xml.StartElement)
		switch {
		case !ok:
		case inBody:
			return start.Name.Local
		case start.Name.Local == "Body":
			inBody = true
		}
	}
}

// answer is an HTTP response held back.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, code: http.StatusOK} }

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *answer) writeTo(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes())
}

// cut resets the connection under a response.
func cut(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	c, _, err := h.Hijack()
	if err != nil {
		return
	}
	if t, ok := c.(*tls.Conn); ok {
		if wc, ok := t.NetConn().(*wireConn); ok {
			wc.reset()
			_ = wc.Close()
			return
		}
	}
	_ = c.Close()
}

// writeFault answers with a SOAP fault, in the shape that vSphere gives it.
func writeFault(w http.ResponseWriter, f types.BaseMethodFault) {
	name := strings.TrimPrefix(fmt.Sprintf("%T", f), "*types.")
	detail, err := xml.Marshal(f)
	if err != nil {
		detail = nil
	}
	// The element is named after the type it was marshalled from; the API names it TypeFault and repeats the type.
	detail = bytes.TrimSuffix(bytes.TrimPrefix(detail, []byte("<"+name+">")), []byte("</"+name+">"))
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, xml.Header+`<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`+
		`<soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s, as armed</faultstring>`+
		`<detail><%sFault xmlns="urn:vim25" xsi:type="%s">%s</%sFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`,
		name, name, name, detail, name)
}

// secret makes a password.
func secret() (string, error) {
	b := make([]byte, 12)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("making a password: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// selfSigned makes a certificate for an endpoint on loopback.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key for %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate for %s: %w", name, err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"labsim"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate for %s: %w", name, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// admits checks a password at an endpoint. That of a host's root may have been changed at its console, and lockdown
// mode keeps even root out.
func (s *site) admits(e *endpoint, password string) bool {
	if e.host == "" {
		return password == e.password
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	y := s.world.host(e.host).system
	if y.password != nil {
		return !y.lockdown && password == *y.password
	}
	return !y.lockdown && password == e.password
}

var errClosed = errors.New("the lab is closed")

// handlerOf puts an inventory behind its endpoint.
func (e *endpoint) handlerOf(in *inventory) http.Handler {
	admits := func(user, password string) bool { return user == e.user && in.site.admits(e, password) }
	in.reg.SessionManager().ValidLogin = func(l *types.Login) bool { return admits(l.UserName, l.Password) }
	return in.handler(e.addr(), e.user, e.password, admits)
}
