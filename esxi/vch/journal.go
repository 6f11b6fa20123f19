package vch

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

// Object is something that an installation makes on a server.
type Object struct {
	Kind   string `json:"kind"`             // pool, switch, portgroup, folder, vm, directory, volume, images or parent
	Name   string `json:"name"`             // that of the last four is [datastore] path
	Parent string `json:"parent,omitempty"` // managed object id of what it is in
	ID     string `json:"id,omitempty"`     // its own, once it is known
}

func (o Object) String() string {
	words := map[string]string{"pool": "resource pool", "portgroup": "port group", "vm": "virtual machine",
		"directory": "files", "volume": "volume store", "images": "image store", "parent": "folder"}
	if w := words[o.Kind]; w != "" {
		return w + " " + o.Name
	}
	return o.Kind + " " + o.Name
}

func (o Object) same(other Object) bool {
	return o.Kind == other.Kind && o.Name == other.Name && o.Parent == other.Parent
}

// Record is one line of a journal.
type Record struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"` // begin, make, made or gone
	Version  int       `json:"version,omitempty"`
	VCH      string    `json:"vch,omitempty"`      // begin
	Endpoint string    `json:"endpoint,omitempty"` // begin: host:port
	Object   *Object   `json:"object,omitempty"`
}

// Journal is an append-only file about one VCH on one server. It announces each
// object before the call that makes it, so that a run that was killed leaves
// nothing unknown behind. A nil *Journal keeps nothing.
type Journal struct {
	Path    string
	Records []Record
	file    *os.File
}

// OpenJournal opens the journal of a VCH on a server (host:port) below dir, or
// starts one. A last line that a crash tore is dropped: its call was never
// sent.
func OpenJournal(dir, endpoint, name string) (*Journal, error) {
	fail := func(err error) (*Journal, error) { return nil, fmt.Errorf("open the journal of %s: %w", name, err) }
	path := journalPath(dir, endpoint, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fail(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fail(err)
	}
	j := &Journal{Path: path, file: f}
	b, err := os.ReadFile(path)
	if err == nil {
		var whole int
		j.Records, whole, err = parseJournal(b)
		if err == nil && whole < len(b) {
			err = f.Truncate(int64(whole))
		}
	}
	if err == nil && len(j.Records) == 0 {
		if err = syncDir(filepath.Dir(path)); err == nil {
			err = j.append(Record{Kind: "begin", Version: journalVersion, VCH: name, Endpoint: endpoint})
		}
	}
	if err != nil {
		f.Close()
		return fail(err)
	}
	return j, nil
}

// FindJournal opens a journal that is there, and returns nil where there is
// none.
func FindJournal(dir, endpoint, name string) (*Journal, error) {
	if !exists(journalPath(dir, endpoint, name)) {
		return nil, nil
	}
	return OpenJournal(dir, endpoint, name)
}

// Journals returns the names of the VCHs on a server that have a journal.
func Journals(dir, endpoint string) ([]string, error) {
	list, err := os.ReadDir(filepath.Join(dir, fileName(endpoint)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for journals: %w", err)
	}
	var out []string
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, fileName(endpoint), e.Name()))
		if err != nil {
			return nil, fmt.Errorf("look for journals: %w", err)
		}
		if records, _, err := parseJournal(b); err == nil && len(records) > 0 {
			out = append(out, records[0].VCH)
		}
	}
	return out, nil
}

func journalPath(dir, endpoint, name string) string {
	return filepath.Join(dir, fileName(endpoint), fileName(name)+".jsonl")
}

// fileName spells any text as one file name; two texts never share one.
func fileName(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
			out.WriteByte(b)
		case b == '.' && out.Len() > 0:
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}

// syncDir makes a new name in dir survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// parseJournal decodes whole lines, and returns how many bytes they take.
func parseJournal(b []byte) (records []Record, whole int, err error) {
	for n := 1; ; n++ {
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
		return nil, whole, nil
	}
	switch first := records[0]; {
	case first.Kind != "begin" || first.VCH == "":
		return nil, 0, errors.New("line 1 does not begin a journal")
	case first.Version != journalVersion:
		return nil, 0, fmt.Errorf("line 1: version %d is not %d, which this labctl writes", first.Version, journalVersion)
	}
	return records, whole, nil
}

func (j *Journal) append(r Record) error {
	if j == nil {
		return nil
	}
	r.Time = time.Now().UTC()
	b, err := json.Marshal(r)
	if err == nil {
		_, err = j.file.Write(append(b, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.Records = append(j.Records, r)
	return nil
}

// announce is written before o is made.
func (j *Journal) announce(o Object) error { return j.append(Record{Kind: "make", Object: &o}) }

// record notes that o was made, with its id.
func (j *Journal) record(o Object) error { return j.append(Record{Kind: "made", Object: &o}) }

// forget notes that o is not there (any more).
func (j *Journal) forget(o Object) error { return j.append(Record{Kind: "gone", Object: &o}) }

// Pending returns the objects that may be there, in the order of their making.
func (j *Journal) Pending() []Object {
	if j == nil {
		return nil
	}
	var out []Object
	for _, r := range j.Records {
		if r.Object == nil {
			continue
		}
		i := slices.IndexFunc(out, r.Object.same)
		switch {
		case r.Kind == "gone" && i >= 0:
			out = slices.Delete(out, i, i+1)
		case r.Kind == "gone":
		case i < 0:
			out = append(out, *r.Object)
		case r.Kind == "made":
			out[i] = *r.Object
		}
	}
	return out
}

// settle deletes a journal that has nothing pending, and closes any other. That
// one cannot be deleted is no harm: it says that nothing is there.
func (j *Journal) settle() {
	if j == nil {
		return
	}
	j.file.Close()
	if len(j.Pending()) == 0 {
		os.Remove(j.Path)
	}
}

// Done closes a journal, and deletes one that has nothing pending.
func (j *Journal) Done() { j.settle() }
