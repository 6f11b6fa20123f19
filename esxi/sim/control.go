package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxCalls bounds the list of calls that State gives.
const maxCalls = 5000

// tally counts requests since the last reset.
type tally struct {
	mu     sync.Mutex
	total  int
	byPath map[string]int
	bytes  map[string]int64
	calls  []string
}

func (l *Lab) count(path, method string) {
	l.tally.mu.Lock()
	defer l.tally.mu.Unlock()
	if l.tally.byPath == nil {
		l.tally.byPath = map[string]int{}
	}
	l.tally.total++
	l.tally.byPath[path]++
	if len(l.tally.calls) < maxCalls {
		l.tally.calls = append(l.tally.calls, method)
	}
}

func (t *tally) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total, t.byPath, t.bytes, t.calls = 0, nil, nil, nil
}

// control is the lab's remote control, for loopback and programs only.
//
//	GET /state      what is true
//	POST /fault     arm a fault
//	DELETE /fault   disarm all
//	POST /release   let held requests go
//	POST /reset     start the scene anew
//	GET /console/NAME           what a host's console shows
//	POST /console/NAME/report   a keyboard report for it, 16 hex digits
type control struct {
	listener net.Listener
	server   *http.Server
}

func newControl(l *Lab, addr string) (*control, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("control address %q: %w", addr, err)
	}
	if err := loopback(host); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for control: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) { reply(w, l.State()) })
	mux.HandleFunc("POST /fault", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f, err := ParseFault(body)
		if err == nil {
			err = l.Arm(f)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, map[string]any{"version": 1, "armed": f})
	})
	mux.HandleFunc("DELETE /fault", func(w http.ResponseWriter, r *http.Request) {
		l.Disarm()
		reply(w, map[string]any{"version": 1, "armed": nil})
	})
	mux.HandleFunc("POST /release", func(w http.ResponseWriter, r *http.Request) {
		l.Release()
		reply(w, map[string]any{"version": 1})
	})
	l.consoles(mux)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, r *http.Request) {
		if err := l.Reset(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply(w, map[string]any{"version": 1})
	})
	return &control{listener: ln, server: &http.Server{Handler: programsOnly(mux), ReadHeaderTimeout: 10 * time.Second}}, nil
}

func (c *control) serve() { _ = c.server.Serve(c.listener) }

func (c *control) close() {
	_ = c.server.Close()
	_ = c.listener.Close()
}

// programsOnly keeps out web pages, which could otherwise post to loopback from any browser on this machine: their
// requests carry an Origin or Sec-Fetch-Site header, or a Host name of their own (DNS rebinding).
func programsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if loopback(host) != nil || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			http.Error(w, "labsim's control is for programs on this machine", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}

// Release lets the requests go that a hold keeps.
func (l *Lab) Release() { l.faults.release() }
