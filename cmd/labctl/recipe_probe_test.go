package main

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/internal/skipped"
	"github.com/labctl/labctl/recipes"
)

// The API answers where TLS begins; a port that is only open, or shut, is not
// the API.
func TestProbe(t *testing.T) {
	server := tlsServer(t)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut.Close()
	port := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }
	number := func(p string) int { n, _ := strconv.Atoi(p); return n }
	for name, tc := range map[string]struct {
		api  string
		c    recipes.Condition
		want bool
	}{
		"api answers":           {u.Port(), recipes.Condition{Kind: "reachable", TCP: 443}, true},
		"api is mute":           {port(mute), recipes.Condition{Kind: "reachable", TCP: 443}, false},
		"api is shut":           {port(shut), recipes.Condition{Kind: "reachable", TCP: 443}, false},
		"api is shut, as hoped": {port(shut), recipes.Condition{Kind: "unreachable", TCP: 443}, true},
		"another port is open":  {"", recipes.Condition{Kind: "reachable", TCP: number(port(mute))}, true},
		"another port is shut":  {"", recipes.Condition{Kind: "reachable", TCP: number(port(shut))}, false},
		"a port is refused":     {"", recipes.Condition{Kind: "closed", TCP: number(port(shut))}, true},
		"a port is not refused": {"", recipes.Condition{Kind: "closed", TCP: number(port(mute))}, false},
		"another host":          {"1", recipes.Condition{Kind: "reachable", Host: "127.0.0.1", TCP: number(port(mute))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &prober{host: "127.0.0.1", port: tc.api}
			got, err := p.Probe(t.Context(), tc.c)
			if err != nil || got != tc.want {
				t.Errorf("%v, %v; want %v", got, err, tc.want)
			}
		})
	}
	if _, err := (&prober{}).Probe(t.Context(), recipes.Condition{Kind: "reachable"}); err == nil {
		t.Error("a host without an address was asked")
	}
}

func TestPings(t *testing.T) {
	w, err := watchPings()
	if err != nil {
		skipped.Test(t, "pings need the right to open raw sockets: %v", err)
	}
	defer w.conn.Close()
	if ok, _ := w.heard(t.Context(), "127.0.0.1"); ok {
		t.Fatal("a ping was heard before one was sent")
	}
	conn, err := net.Dial("ip4:icmp", "127.0.0.1")
	if err != nil {
		skipped.Test(t, "%v", err)
	}
	defer conn.Close()
	// Type 8, code 0, checksum of an empty request with identifier and sequence 0.
	if _, err := conn.Write([]byte{echoRequest, 0, 0xf7, 0xff, 0, 0, 0, 0}); err != nil {
		skipped.Test(t, "%v", err)
	}
	for range 100 {
		if ok, _ := w.heard(t.Context(), "127.0.0.1"); ok {
			if ok, _ := w.heard(t.Context(), "127.0.0.2"); ok {
				t.Error("the ping of another host counts")
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the ping was not heard")
}

// What answers with another certificate is another machine, and is told of once.
func TestProbeKnowsTheHost(t *testing.T) {
	server := tlsServer(t)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	own := esxi.SHA256Fingerprint(server.Certificate())
	for _, pin := range []string{own, esxi.SHA1Fingerprint(server.Certificate()), strings.Repeat("AB:", 31) + "AB"} {
		var told []string
		p := &prober{host: "127.0.0.1", port: u.Port(), pin: pin, stranger: func(got string) { told = append(told, got) }}
		for range 2 {
			up, err := p.Probe(t.Context(), recipes.Condition{Kind: "reachable", TCP: 443})
			if err != nil || up == strings.HasPrefix(pin, "AB:AB:") {
				t.Errorf("pin %s: %v, %v", pin, up, err)
			}
		}
		if strings.HasPrefix(pin, "AB:AB:") != slices.Equal(told, []string{own}) {
			t.Errorf("pin %s: told of %v", pin, told)
		}
		down, err := p.Probe(t.Context(), recipes.Condition{Kind: "unreachable", TCP: 443})
		if err != nil || down {
			t.Errorf("pin %s: nothing answers: %v, %v", pin, down, err)
		}
	}
}
