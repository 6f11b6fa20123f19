package hid

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// The protocol between Serve, beside the keyboard, and Attach, beside the person:
// JSON lines, each end's first one a hello with the protocol's number. Then
// Attach's end asks for one thing at a time and waits for its answer. Both ends
// send a beat when they have nothing else to say.

// WireProtocol is the number of the protocol; both ends must have the same.
const WireProtocol = 1

// Times of the protocol. Serve's end hears of a broken connection only by the
// silence; a key it has pressed must be up within a second of the break.
const (
	wireBeat     = 100 * time.Millisecond // at least every 200 ms are promised
	WireSilence  = 500 * time.Millisecond // after which Serve gives up
	wireDoubt    = 20 * time.Millisecond  // whether it was silence, or this machine too slow to hear
	wirePatience = 2 * time.Second        // after which Attach's end gives up
	wireHello    = 30 * time.Second       // for a login and the start of a program
	wireLast     = time.Second            // for the last word of an end that ends
	wireClose    = 5 * time.Second        // to release, and to unbind
)

// WireDeadline is the longest deadline that a keyboard behind Serve should have:
// with WireSilence before it and a release after it, it stays below a second.
const WireDeadline = 300 * time.Millisecond

// wireLine bounds a line: far more than the reports of one key.
const wireLine = 64 << 10

// Operations of requests and answers.
const (
	opHello  = "hello" // both, first
	opBeat   = "beat"  // both
	opOpen   = "open"  // request, once
	opReady  = "ready" // its answer
	opPlay   = "play"  // request
	opDone   = "done"  // its answer, and that of opClose
	opLights = "lights"
	opClose  = "close" // request, last
	opFail   = "fail"  // answer, last
)

// message is a line of either end.
type message struct {
	Op       string     `json:"op"`
	Seq      int        `json:"seq,omitempty"` // of a request, and of its answer
	Protocol int        `json:"protocol,omitempty"`
	Release  string     `json:"release,omitempty"` // of the program
	Open     *Wish      `json:"open,omitempty"`
	Reports  []string   `json:"reports,omitempty"`
	Pace     *Pace      `json:"pace,omitempty"`
	Count    int        `json:"count,omitempty"` // reports that the host has taken
	Lights   *LEDs      `json:"lights,omitempty"`
	Left     bool       `json:"left,omitempty"` // the host has let go of the keyboard
	Fault    *wireFault `json:"fault,omitempty"`
}

// wireFault is an error on its way.
type wireFault struct {
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"`
	Kind    string `json:"kind,omitempty"`  // of wireKinds
	State   State  `json:"state,omitempty"` // of a DeliveryError
	Flushed bool   `json:"flushed,omitempty"`
}

// wireKinds are the errors that keep what they are on their way.
var wireKinds = map[string]error{
	"no-host": ErrNoHost, "not-taken": ErrNotTaken, "busy": ErrBusy, "no-watcher": ErrNoWatcher, "left": ErrLeft,
}

func newWireFault(err error) *wireFault {
	if err == nil {
		return nil
	}
	f := &wireFault{Text: err.Error()}
	for kind, known := range wireKinds {
		if errors.Is(err, known) {
			f.Kind = kind
		}
	}
	var d *DeliveryError
	if errors.As(err, &d) {
		f.State, f.Flushed, f.Text = d.State, d.Flushed, d.Err.Error()
	}
	return f
}

// error gives the fault back as what it was at the other end.
func (f *wireFault) error() error {
	var err error = &RemoteError{Text: f.Text, Hint: f.Hint, kind: wireKinds[f.Kind]}
	if f.State != 0 {
		err = &DeliveryError{State: f.State, Flushed: f.Flushed, Err: err}
	}
	return err
}

// RemoteError is an error of the keyboard's end of a connection. It is the
// error that it was there: ErrNoHost, ErrNotTaken, ErrBusy, ErrNoWatcher or
// ErrLeft.
type RemoteError struct {
	Text string
	Hint string // what would help there
	kind error
}

func (e *RemoteError) Error() string { return e.Text }

// Unwrap returns what kind of error it was, nil for any other.
func (e *RemoteError) Unwrap() error { return e.kind }

// VersionError is a program at the other end that speaks another protocol.
type VersionError struct {
	Ours, Theirs             int    // protocols
	OurRelease, TheirRelease string // of the programs
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("this labctl is %s and speaks protocol %d of keyboards, the labctl at the other end is %s and speaks %d",
		orUnknown(e.OurRelease), e.Ours, orUnknown(e.TheirRelease), e.Theirs)
}

func orUnknown(s string) string {
	if s == "" {
		return "of unknown version"
	}
	return s
}

func checkHello(m message, release string) error {
	if m.Protocol != WireProtocol {
		return &VersionError{WireProtocol, m.Protocol, release, m.Release}
	}
	return nil
}

// wireReader reads messages.
type wireReader struct{ lines *bufio.Scanner }

func newWireReader(r io.Reader) *wireReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), wireLine)
	return &wireReader{s}
}

// next returns the next message; io.EOF after the last. No error holds what was
// read: it may be keys of a password.
func (r *wireReader) next() (message, error) {
	var m message
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return m, err
		}
		return m, io.EOF
	}
	if err := json.Unmarshal(r.lines.Bytes(), &m); err != nil {
		return m, errors.New("a line that is no message of a keyboard")
	}
	return m, nil
}

// hello returns the first message, and passes over what a login shell says
// before the program starts: the start of that is the reason where no program
// does.
func (r *wireReader) hello() (message, error) {
	const most = 200
	var noise string
	for range most {
		if !r.lines.Scan() {
			err := r.lines.Err()
			if err == nil {
				err = io.EOF
			}
			if noise != "" {
				err = fmt.Errorf("%w after %q", err, noise)
			}
			return message{}, err
		}
		var m message
		line := bytes.TrimSpace(r.lines.Bytes())
		if json.Unmarshal(line, &m) == nil && m.Op == opHello {
			return m, nil
		}
		if noise == "" {
			noise = string(line[:min(len(line), 80)])
		}
	}
	return message{}, fmt.Errorf("the other end says %q and goes on like that: that is no labctl", noise)
}

func writeMessage(w io.Writer, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// checkPlay judges the reports of one request: one key at a time is let go of at
// its end, so that a lost connection finds as little down as can be. A single
// report is for who keeps the time himself.
func checkPlay(texts []string) ([]Report, error) {
	if len(texts) == 0 {
		return nil, errors.New("a request without reports")
	}
	reports := make([]Report, len(texts))
	for i, s := range texts {
		r, err := ParseReport(s)
		if err != nil {
			return nil, err
		}
		reports[i] = r
	}
	return reports, nil
}
