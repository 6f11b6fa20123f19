package sim

import (
	"net"
	"sync"
)

// gate is the wire in front of an endpoint: a listener whose connections live and die with the network behind it.
type gate struct {
	net.Listener
	mu     sync.Mutex
	state  gateState
	turned chan struct{} // closed and replaced when the state changes
	conns  map[*wireConn]struct{}
}

type gateState int

const (
	gateOpen   gateState = iota
	gateCut              // connections are reset, new ones closed at once
	gateSilent           // nothing arrives any more in either direction; new connections are accepted by the kernel and stay mute
)

func newGate(l net.Listener) *gate {
	return &gate{Listener: l, turned: make(chan struct{}), conns: map[*wireConn]struct{}{}}
}

// turn changes the state of the wire.
func (g *gate) turn(to gateState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == to {
		return
	}
	g.state = to
	close(g.turned)
	g.turned = make(chan struct{})
	if to == gateCut {
		for c := range g.conns {
			c.reset()
		}
	}
}

// reset cuts all connections, whatever the state.
func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.reset()
	}
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		w := &wireConn{Conn: c, gate: g, gone: make(chan struct{})}
		g.mu.Lock()
		if g.state == gateCut {
			g.mu.Unlock()
			w.reset()
			continue
		}
		g.conns[w] = struct{}{}
		g.mu.Unlock()
		return w, nil
	}
}

// pass waits while the wire is silent and says whether the connection survived.
func (g *gate) pass(c *wireConn) bool {
	for {
		g.mu.Lock()
		state, turned := g.state, g.turned
		g.mu.Unlock()
		switch state {
		case gateOpen:
			return true
		case gateCut:
			return false
		}
		select {
		case <-turned:
		case <-c.gone:
			return false
		}
	}
}

// wireConn is a connection through a gate.
type wireConn struct {
	net.Conn
	gate *gate
	once sync.Once
	gone chan struct{}
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.gate.pass(c) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *wireConn) Write(p []byte) (int, error) {
	if !c.gate.pass(c) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *wireConn) Close() error {
	c.once.Do(func() {
		close(c.gone)
		c.gate.mu.Lock()
		delete(c.gate.conns, c)
		c.gate.mu.Unlock()
	})
	return c.Conn.Close()
}

// reset closes the connection so that the peer sees a reset and not an end of data.
func (c *wireConn) reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Conn.Close()
}
