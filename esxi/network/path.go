package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// readTimeout bounds one attempt to read a host back, where the path does not
// say. A host that answers does so in well under a second.
const readTimeout = 5 * time.Second

// logoutTimeout bounds the farewell, on which nothing depends.
const logoutTimeout = 2 * time.Second

// Path is one way to a host: through its vCenter, or by its own API. It logs in
// when it is first used.
type Path struct {
	Via  string // vcenter or esxi
	Dial func(context.Context) (*esxi.Client, error)
	Want esxi.Wanted
	Name string // of the host in the inventory, once Host has found it

	Timeout time.Duration // bounds one attempt to read the host back; zero: 5 s

	client  *esxi.Client
	next    *esxi.Client // of the same session, for the next re-read; see open
	host    types.ManagedObjectReference
	earlier int  // requests of sessions that were given up
	allDVS  bool // re-reads show switches that the host is not a member of
}

// Host returns the host over the path's connections, logging in and looking it
// up the first time.
func (p *Path) Host(ctx context.Context) (*object.HostSystem, error) {
	if p.client == nil {
		c, err := p.Dial(ctx)
		if err != nil {
			return nil, err
		}
		p.client = c
	}
	if p.host.Value == "" {
		h, err := p.client.FindHost(ctx, p.Want)
		if err != nil {
			return nil, err
		}
		p.host, p.Name = h.Reference(), h.InventoryPath
	}
	return object.NewHostSystem(p.client.Vim, p.host), nil
}

// Client returns the session, or nil before the first use.
func (p *Path) Client() *esxi.Client { return p.client }

// Requests counts what was sent on this path.
func (p *Path) Requests() int {
	if p.client == nil {
		return p.earlier
	}
	return p.earlier + p.client.Requests()
}

// Close logs out.
func (p *Path) Close(ctx context.Context) {
	if p.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
	defer cancel()
	_ = p.client.Logout(ctx)
}

// open opens the connection of the next re-read ahead. What matters is that it
// is new since the change; the time to open it need not be spent when the read
// is due.
func (p *Path) open(ctx context.Context) {
	next := p.client.Fresh()
	next.Warm(ctx, 1)
	p.next = next
}

// confirm is reread for when there is doubt. A vCenter believes for a minute or
// more that a host it has lost is connected, and shows what it remembers; made
// to ask the host anew it cannot.
func (p *Path) confirm(ctx context.Context) (*Snapshot, error) {
	s, _, err := p.reread(ctx, nil)
	if err != nil || p.Via != "vcenter" {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.readLimit())
	defer cancel()
	_, err = methods.RefreshNetworkSystem(ctx, p.client.Vim, &types.RefreshNetworkSystem{This: s.NetworkSystem})
	if err != nil {
		return nil, err
	}
	s, _, err = p.reread(ctx, nil)
	return s, err
}

// reread reads the host over new connections, in the same session where it
// still counts, else in a new one. What it returns is the truth of this moment
// as this path sees it, or an error; a host that vCenter cannot reach is an
// error, because what vCenter then shows is what it remembers.
func (p *Path) reread(ctx context.Context, tasks []types.ManagedObjectReference) (*Snapshot, []TaskState, error) {
	ctx, cancel := context.WithTimeout(ctx, p.readLimit())
	defer cancel()
	if p.client != nil {
		next := p.next
		if next == nil {
			next = p.client.Fresh()
		}
		p.client.Close()
		p.client, p.next = next, nil
	}
	h, err := p.Host(ctx)
	if err == nil {
		var s *Snapshot
		var states []TaskState
		s, states, err = read(ctx, h, readOptions{Brief: true, Tasks: tasks, AllDVS: p.allDVS})
		if err == nil && s.State != string(types.HostSystemConnectionStateConnected) {
			return nil, nil, &awayError{Via: p.Via, State: s.State}
		}
		if err == nil {
			return s, states, nil
		}
	}
	p.ended(err)
	return nil, nil, err
}

// readLimit is for how long one attempt to read the host back may take.
func (p *Path) readLimit() time.Duration { return cmp.Or(p.Timeout, readTimeout) }

// ended reports whether a call failed because its session has ended, and drops
// such a session: the next use logs in anew.
func (p *Path) ended(err error) bool {
	var call *esxi.CallError
	over := p.client != nil && errors.As(err, &call) && call.Refused && call.Fault == "NotAuthenticated"
	if over {
		p.earlier, p.client = p.Requests(), nil
	}
	return over
}

// Read is ReadFor over the path's connections, and the function Read without a
// goal. Where the session has ended in the meantime, as it does while a person
// thinks, it logs in again.
func (p *Path) Read(ctx context.Context, g *Goal) (*Snapshot, error) {
	read := func() (*Snapshot, error) {
		h, err := p.Host(ctx)
		if err != nil {
			return nil, err
		}
		if g == nil {
			return Read(ctx, h)
		}
		return ReadFor(ctx, h, *g)
	}
	s, err := read()
	if p.ended(err) {
		return read()
	}
	return s, err
}

// awayError says that vCenter has lost the host.
type awayError struct{ Via, State string }

func (e *awayError) Error() string {
	return fmt.Sprintf("%s shows the host as %s", e.Via, e.State)
}
