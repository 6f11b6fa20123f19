package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes"
)

// prober asks the network for a recipe. What the network cannot tell, such as
// what a menu shows, the model answers.
type prober struct {
	host  string // address of the host
	port  string // of its API; empty is 443
	pings *pings // nil where none can be heard
	// pin is the fingerprint of the host's certificate; empty where none is known.
	// Where another one answers it is not the host that does, and stranger is told
	// once.
	pin      string
	stranger func(got string)
	told     sync.Once
}

// Close ends the watch for pings.
func (p *prober) Close() error {
	if p.pings == nil {
		return nil
	}
	return p.pings.conn.Close()
}

// pings notes the echo requests that arrive at this machine.
type pings struct {
	conn net.PacketConn
	mu   sync.Mutex
	from map[string]bool // addresses
}

// echoRequest is a type of ICMP (RFC 792).
const echoRequest = 8

// watchPings listens for pings. The kernel hands them out to root only.
func watchPings() (*pings, error) {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, hintf(fmt.Errorf("listen for the host's ping: %w", err), "that takes root: sudo labctl …")
	}
	w := &pings{conn: conn, from: map[string]bool{}}
	go func() {
		for b := make([]byte, 64); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if n > 0 && b[0] == echoRequest {
				w.mu.Lock()
				w.from[from.String()] = true
				w.mu.Unlock()
			}
		}
	}()
	return w, nil
}

// heard says whether a ping came from an address, or from anywhere where none
// is known.
func (w *pings) heard(ctx context.Context, host string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if host == "" {
		return len(w.from) > 0, nil
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		// The name may be gone with the host's network, and a ping is a ping.
		return len(w.from) > 0, nil
	}
	return slices.ContainsFunc(addresses, func(a string) bool { return w.from[a] }), nil
}

// newProber returns nil where the model has to answer for the network too: the
// host is simulated, or seen on a screen.
func (a *app) newProber(j *job) (recipes.Prober, error) {
	if j.sim || strings.HasPrefix(j.uri, "vm:") {
		return nil, nil
	}
	address := a.set.URL
	if j.host != nil {
		address = j.host.URL
	}
	p := &prober{}
	if j.host != nil && j.host.Thumbprint != "" {
		pin, err := esxi.ParseThumbprint(j.host.Thumbprint)
		if err != nil {
			return nil, usagef("host %s: %w", j.host.Name, err)
		}
		p.pin = pin
		p.stranger = func(got string) {
			a.warn("at the address of %s another certificate answers than its own (%s): another machine has the address, or the host has a new certificate", j.host.Name, got)
			a.hint("to look at it: %s", a.line("host", "trust", j.host.Name))
		}
	}
	if address != "" {
		u, _, err := esxi.ParseURL(address)
		if err != nil {
			return nil, usagef("the host's url: %w", err)
		}
		p.host, p.port = u.Hostname(), u.Port()
	}
	icmp := recipes.Condition{Kind: "icmp"}.String()
	pinged := slices.ContainsFunc(j.recipe.Steps, func(s recipes.Step) bool { return strings.Contains(s.Text, icmp) }) ||
		slices.ContainsFunc(j.recipe.Verify, func(c recipes.Condition) bool { return c.Kind == "icmp" })
	if strings.HasPrefix(j.uri, "sim:") {
		if p.host == "" {
			return nil, nil
		}
		return p, nil
	}
	if pinged {
		w, err := watchPings()
		if err != nil {
			return nil, err
		}
		p.pings = w
	}
	if p.host != "" {
		return p, nil
	}
	for _, c := range j.recipe.Verify {
		if c.Network() && c.Host == "" {
			return nil, hintf(usagef("recipe %s ends with a look at the network (%s), and the host's address is not known", j.recipe.Name, c),
				"--host names one of the config, --url gives the address")
		}
	}
	return p, nil
}

// probeLimit bounds one look at the network; the caller looks again.
const probeLimit = 3 * time.Second

// Probe asks once whether a condition of the network holds.
func (p *prober) Probe(ctx context.Context, c recipes.Condition) (bool, error) {
	switch {
	case c.Kind == "icmp" && p.pings != nil:
		return p.pings.heard(ctx, p.host)
	case !c.Network():
		return false, recipes.ErrCannotTell // no ping leaves labsim either
	}
	host, port := c.Host, c.TCP
	if host == "" {
		host = p.host
		if n, err := strconv.Atoi(p.port); err == nil && port == 443 {
			port = n // where its API is from here
		}
	}
	if host == "" {
		return false, errors.New("the host's address is not known")
	}
	pin := ""
	if c.Host == "" {
		pin = p.pin
	}
	seen, err := lookAt(ctx, host, port, c.TCP == 443, pin)
	if err != nil {
		return false, err
	}
	if seen.stranger != "" && p.stranger != nil {
		p.told.Do(func() { p.stranger(seen.stranger) })
	}
	switch c.Kind {
	case "closed":
		return seen.refused, nil
	case "unreachable":
		return !seen.up && seen.stranger == "", nil
	}
	return seen.up, nil
}

// sight is what a look at a TCP port saw.
type sight struct {
	up       bool
	refused  bool   // by the host itself
	stranger string // fingerprint of a certificate that is not the host's
}

// lookAt tries a TCP port. The API's has to begin with TLS, as a connection alone
// says little where a proxy or a kernel takes it, and with the host's own
// certificate where that is known. Without a port any sign of life counts, a
// refusal too: a ping would need more rights than a user has.
func lookAt(ctx context.Context, host string, port int, isTLS bool, pin string) (sight, error) {
	if err := ctx.Err(); err != nil {
		return sight{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	anything := port == 0
	if anything {
		port = 443
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		refused := errors.Is(err, syscall.ECONNREFUSED)
		return sight{up: anything && refused, refused: refused}, nil
	}
	defer conn.Close()
	if !isTLS {
		return sight{up: true}, nil
	}
	// Nothing is sent that the certificate would have to vouch for.
	t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: host})
	if t.HandshakeContext(ctx) != nil {
		return sight{}, nil
	}
	if certs := t.ConnectionState().PeerCertificates; pin != "" && len(certs) > 0 {
		got := esxi.SHA256Fingerprint(certs[0])
		if pin != got && pin != esxi.SHA1Fingerprint(certs[0]) {
			return sight{stranger: got}, nil
		}
	}
	return sight{up: true}, nil
}

// modelProber answers for the host behind sim:, whose network is part of the
// model.
type modelProber struct{ model *simModel }

func (p modelProber) Predicted() bool { return true }

func (p modelProber) Probe(_ context.Context, c recipes.Condition) (bool, error) {
	return recipes.Holds(p.model.World(), c), nil
}
