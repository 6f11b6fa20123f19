package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes"
)

// prober asks the network for a recipe. What the network cannot tell, such as
// what a menu shows, the model answers.
type prober struct {
	host string // address of the host
	port string // of its API; empty is 443
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
	if address != "" {
		u, _, err := esxi.ParseURL(address)
		if err != nil {
			return nil, usagef("the host's url: %w", err)
		}
		p.host, p.port = u.Hostname(), u.Port()
	}
	if p.host != "" {
		return p, nil
	}
	if strings.HasPrefix(j.uri, "sim:") {
		return nil, nil
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
	if !c.Network() {
		return false, fmt.Errorf("the network cannot tell: %s", c)
	}
	host, port := c.Host, c.TCP
	if host == "" {
		host = p.host
		if n, err := strconv.Atoi(p.port); err == nil && port == 443 {
			port = n // where its API is from here
		}
	}
	up, err := answers(ctx, host, port, c.TCP == 443)
	if err != nil {
		return false, err
	}
	return up == (c.Kind == "reachable"), nil
}

// answers tries a TCP port. The API's has to begin with TLS, as a connection
// alone says little where a proxy or a kernel takes it. Without a port any sign
// of life counts, a refusal too: a ping would need more rights than a user has.
func answers(ctx context.Context, host string, port int, isTLS bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
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
		return anything && errors.Is(err, syscall.ECONNREFUSED), nil
	}
	defer conn.Close()
	if !isTLS {
		return true, nil
	}
	// Nothing is sent that the certificate would have to vouch for.
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: host}).HandshakeContext(ctx)
	return err == nil, nil
}
