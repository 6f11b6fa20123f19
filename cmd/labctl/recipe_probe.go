package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes"
)

// prober asks the network for a recipe. What the network cannot tell, such as
// what a menu shows, it leaves to the model.
type prober struct {
	host string // address of the host; empty where none is known
}

func (a *app) newProber(j *job) recipes.Prober {
	p := &prober{}
	if j.host != nil && j.host.URL != "" {
		if u, _, err := esxi.ParseURL(j.host.URL); err == nil {
			p.host = (&url.URL{Host: u.Host}).Hostname()
		}
	}
	if s := a.set.URL; p.host == "" && s != "" {
		if u, _, err := esxi.ParseURL(s); err == nil {
			p.host = u.Hostname()
		}
	}
	return p
}

// probeLimit bounds one look at the network; the caller looks again.
const probeLimit = 3 * time.Second

// Probe asks once whether a condition of the network holds.
func (p *prober) Probe(ctx context.Context, c recipes.Condition) (bool, error) {
	host := c.Host
	if host == "" {
		host = p.host
	}
	if host == "" {
		return false, fmt.Errorf("the host's address is not known: give --host or --url")
	}
	up, err := answers(ctx, host, c.TCP)
	if err != nil {
		return false, err
	}
	return up == (c.Kind == "reachable"), nil
}

// answers tries a TCP port. Without a port any sign of life counts, and one is
// that a port refuses: a ping would need more rights than a user has.
func answers(ctx context.Context, host string, port int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	any := port == 0
	if any {
		port = 443
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		conn.Close()
		return true, nil
	}
	return any && errors.Is(err, syscall.ECONNREFUSED), nil
}
