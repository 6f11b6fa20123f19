package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// journalVersion is the format of a journal's lines.
const journalVersion = 1

// Endpoint is how a path was reached, for a resume on another machine. It
// holds no password.
type Endpoint struct {
	URL        string `json:"url"`
	User       string `json:"user"`
	Thumbprint string `json:"thumbprint,omitempty"`
}

// Record is one line of a journal.
type Record struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // begin, plan, act, answer, end or cleanup
	Version int       `json:"version,omitempty"`
	Host    string    `json:"host,omitempty"` // as the user calls it

	Plan      *Plan               `json:"plan,omitempty"`      // plan
	Endpoints map[string]Endpoint `json:"endpoints,omitempty"` // begin: by vcenter, esxi
	Act       string              `json:"act,omitempty"`       // act, answer: prepare, change, vms, undo, rescue, …
	Objects   []string            `json:"objects,omitempty"`   // what the act is about to touch
	Error     string              `json:"error,omitempty"`     // answer
	Outcome   Outcome             `json:"outcome,omitempty"`   // end
	Left      []string            `json:"left,omitempty"`      // end: what is not as it should be
}

// Journal is an append-only file of one migration. Each record is on disk
// before Append returns, and so before the act that it announces.
type Journal struct {
	Path    string
	Records []Record
	file    *os.File
	size    int64 // of its whole records; what lies behind was torn by a crash
}

// CreateJournal starts a journal in dir, named after the host and the time.
func CreateJournal(dir, host string, now time.Time) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the journal: %w", err)
	}
	base := fileName(host) + "-" + now.UTC().Format("20060102T150405.000Z")
	path := filepath.Join(dir, base+".jsonl")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the journal: %w", err)
	}
	// The name must survive a crash as much as what is written under it.
	if d, err := os.Open(dir); err == nil {
		err = errors.Join(d.Sync(), d.Close())
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("create the journal: %w", err)
		}
	}
	return &Journal{Path: path, file: f}, nil
}

// fileName keeps a host name usable as part of a file name.
func fileName(host string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, strings.TrimLeft(host, "."))
}

// OpenJournal reads a journal and opens it for more records. A last line that
// was torn by a crash is left out: its act was never begun. The file itself is
// not touched before the next Append, because the one who writes to it may be
// another process, in the middle of that line.
func OpenJournal(path string) (*Journal, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	records, whole, err := ParseJournal(b)
	if err != nil {
		return nil, fmt.Errorf("read the journal %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	return &Journal{Path: path, Records: records, file: f, size: int64(whole)}, nil
}

// ParseJournal decodes a journal's bytes. It returns how many of them belong
// to whole lines, and an error that names the line for anything else.
func ParseJournal(b []byte) (records []Record, whole int, err error) {
	for n := 1; len(b[whole:]) > 0; n++ {
		end := bytes.IndexByte(b[whole:], '\n')
		if end < 0 {
			break
		}
		var r Record
		if err := json.Unmarshal(b[whole:whole+end], &r); err != nil {
			return nil, 0, fmt.Errorf("line %d is not a record: %w", n, err)
		}
		records = append(records, r)
		whole += end + 1
	}
	if len(records) == 0 {
		return nil, whole, errors.New("it holds no whole record")
	}
	first := records[0]
	switch {
	case first.Kind != "begin" || first.Host == "":
		return nil, 0, errors.New("line 1 does not begin a migration")
	case first.Version != journalVersion:
		return nil, 0, fmt.Errorf("line 1: version %d is not %d, which this labctl writes", first.Version, journalVersion)
	}
	planned := false
	for i, r := range records {
		planned = planned || r.Kind == "plan" && r.Plan != nil
		if r.Kind == "act" && !planned {
			return nil, 0, fmt.Errorf("line %d acts before there is a plan", i+1)
		}
	}
	return records, whole, nil
}

// Append writes one record and waits until it is on disk.
func (j *Journal) Append(r Record) error {
	r.Time = time.Now().UTC()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := j.trim(); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	n, err := j.file.Write(append(b, '\n'))
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.size += int64(n)
	j.Records = append(j.Records, r)
	return nil
}

// trim cuts off what lies behind the last whole record: a part of a line, left
// by a crash or a full disk, would make the next record unreadable, and the
// journal with it. Whole lines there are another process's, and not to be lost.
func (j *Journal) trim() error {
	info, err := j.file.Stat()
	if err != nil || info.Size() == j.size {
		return err
	}
	tail := make([]byte, max(info.Size()-j.size, 0))
	if _, err := j.file.ReadAt(tail, j.size); err != nil {
		return err
	}
	if bytes.IndexByte(tail, '\n') >= 0 {
		return errors.New("somebody else has written to it")
	}
	return j.file.Truncate(j.size)
}

// Begin writes the first record. It comes before anything is asked of the host:
// a run that is killed while it still reads must not leave an older journal as
// the newest one.
func (j *Journal) Begin(host string, endpoints map[string]Endpoint) error {
	return j.Append(Record{Kind: "begin", Version: journalVersion, Host: host, Endpoints: endpoints})
}

// Planned writes the plan that is about to be carried out.
func (j *Journal) Planned(p *Plan) error { return j.Append(Record{Kind: "plan", Plan: p}) }

// Discard removes a journal of a run that has changed nothing.
func (j *Journal) Discard() error {
	return errors.Join(j.file.Close(), os.Remove(j.Path))
}

// Close closes the file. What was written stays written.
func (j *Journal) Close() error { return j.file.Close() }

// Host returns the host's name as the user gave it.
func (j *Journal) Host() string { return j.Records[0].Host }

// Endpoints returns how the paths were reached.
func (j *Journal) Endpoints() map[string]Endpoint { return j.Records[0].Endpoints }

// Plan returns the newest plan: the one made after the DVS was prepared, where
// there was something to prepare. It is nil while nothing was planned.
func (j *Journal) Plan() *Plan {
	var p *Plan
	for _, r := range j.Records {
		if r.Plan != nil {
			p = r.Plan
		}
	}
	return p
}

// Undoing reports whether the last thing begun was to take the move back.
func (j *Journal) Undoing() bool {
	undoing := false
	for _, r := range j.Records {
		if r.Kind == "act" {
			undoing = strings.HasPrefix(r.Act, "undo")
		}
	}
	return undoing
}

// Sent reports whether any changing call was announced.
func (j *Journal) Sent() bool {
	return slices.ContainsFunc(j.Records, func(r Record) bool { return r.Kind == "act" })
}

// End returns the last outcome, with what is left, if the journal has one after
// the last act.
func (j *Journal) End() (end Record, ok bool) {
	for _, r := range j.Records {
		switch r.Kind {
		case "end":
			end, ok = r, true
		case "act":
			ok = false
		}
	}
	return end, ok
}

// Open reports whether there is something left to finish or to undo.
func (j *Journal) Open() bool {
	if !j.Sent() {
		return false
	}
	end, ok := j.End()
	return !ok || end.Outcome == Unknown || end.Outcome == Rescued || len(end.Left) > 0
}

// Rescued reports whether the console was typed into: from then on management is
// where the console has put it, and what the plan says of it no longer counts. A
// rollback ends that, unless the host refused it.
func (j *Journal) Rescued() bool {
	rescued, before := false, false
	for _, r := range j.Records {
		switch {
		case r.Kind == "act":
			before, rescued = rescued, r.Act == actRescue || rescued && r.Act == actRest
		case r.Kind == "answer" && r.Act == actUndo && r.Error != "":
			rescued = before
		}
	}
	return rescued
}

// LatestJournal returns the newest journal of a host in dir; fs.ErrNotExist if
// there is none.
func LatestJournal(dir, host string) (*Journal, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for a journal: %w", err)
	}
	for i := len(entries) - 1; i >= 0; i-- { // ReadDir sorts by name, and so by time for one host
		name := entries[i].Name()
		if !strings.HasPrefix(name, fileName(host)+"-") || filepath.Ext(name) != ".jsonl" {
			continue
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("look for a journal: %w", err)
		}
		records, _, err := ParseJournal(b)
		if err != nil {
			if bytes.IndexByte(b, '\n') < 0 {
				continue // torn before its first record: nothing was begun
			}
			return nil, fmt.Errorf("read the journal %s: %w", path, err)
		}
		if records[0].Host == host {
			return OpenJournal(path)
		}
	}
	return nil, fmt.Errorf("no journal of %s: %w", host, fs.ErrNotExist)
}

// Cleaned notes what a later cleanup removed: from then on the inverse in this
// journal no longer fits.
func (j *Journal) Cleaned(removed []string) error {
	return j.Append(Record{Kind: "cleanup", Objects: removed})
}

// CleanedUp reports whether a cleanup followed the migration.
func (j *Journal) CleanedUp() bool {
	return slices.ContainsFunc(j.Records, func(r Record) bool { return r.Kind == "cleanup" })
}
