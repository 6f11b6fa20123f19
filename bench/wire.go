package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// wire is a long cable in front of a server: bytes take half a round trip each way, and so does the opening of a
// connection. labsim's own delay strikes requests only, so connections cost nothing there but the computing.
type wire struct {
	net.Listener
	to  string
	rtt time.Duration
}

// lay starts a wire to an address. It ends with ctx, and connections end with either of their sides.
func lay(ctx context.Context, to string, rtt time.Duration) (*wire, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("laying a wire: %w", err)
	}
	w := &wire{ln, to, rtt}
	context.AfterFunc(ctx, func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	return w, nil
}

func (w *wire) carry(near net.Conn) {
	// The kernel has already answered for the far side. What the client sends before it could have had that answer
	// counts as sent then.
	open := time.Now().Add(w.rtt)
	defer near.Close()
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	for _, d := range [][2]net.Conn{{far, near}, {near, far}} {
		go func() {
			delayed(d[0], d[1], w.rtt/2, open)
			done <- struct{}{}
		}()
	}
	<-done // one side that has nothing more to say ends both: no HTTP client half-closes
}

// delayed copies until either end fails. What was read at one moment is written one delay later, however much follows.
func delayed(dst io.Writer, src io.Reader, delay time.Duration, open time.Time) {
	type parcel struct {
		due  time.Time
		data []byte
	}
	parcels := make(chan parcel, 1024)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for p := range parcels {
			time.Sleep(time.Until(p.due))
			if _, err := dst.Write(p.data); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<16)
	for {
		n, err := src.Read(buf)
		sent := time.Now()
		if sent.Before(open) {
			sent = open
		}
		if n > 0 {
			select {
			case parcels <- parcel{sent.Add(delay), append([]byte{}, buf[:n]...)}:
			case <-gone:
				return
			}
		}
		if err != nil {
			close(parcels)
			<-gone
			return
		}
	}
}

// behind writes a configuration in which the vCenter is at the other end of a wire. Everything else in it stays, the
// pinned certificate too.
func (l *lab) behind(ctx context.Context, rtt time.Duration) (config string, err error) {
	u, err := url.Parse(l.vcenter)
	if err != nil {
		return "", fmt.Errorf("reading the vCenter's address: %w", err)
	}
	w, err := lay(ctx, u.Host, rtt)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(l.config)
	if err != nil {
		return "", fmt.Errorf("reading the lab's configuration: %w", err)
	}
	config = filepath.Join(l.dir, "labctl-wire.yaml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(text), u.Host, w.Addr().String())), 0o600); err != nil {
		return "", fmt.Errorf("writing the lab's configuration: %w", err)
	}
	return config, nil
}
