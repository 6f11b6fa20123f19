package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/labctl/labctl/esxi/vch"
)

// vchProgress shows the events of package vch: as JSON lines, or on stderr. On a
// terminal an upload is one line that fills up; elsewhere a line every ten
// seconds. The library calls it for one event at a time.
type vchProgress struct {
	a     *app
	bar   bool // the cursor stands behind an unfinished line
	began map[string]time.Time
	last  map[string]time.Time // line of an upload, where there is no terminal
}

// vchEvent is an event with the version that every JSON line carries.
type vchEvent struct {
	Version int `json:"version"`
	vch.Event
}

// plainEvery is how often an upload is told of without a terminal.
const plainEvery = 10 * time.Second

func (p *vchProgress) on(e vch.Event) {
	p.a.event(vchEvent{1, e})
	if p.a.json() {
		if e.Kind == "finding" {
			p.a.warn("%s", e.Text)
		}
		return
	}
	name := ""
	if e.VCH != "" {
		name = e.VCH + ": "
	}
	switch e.Kind {
	case "upload":
		p.upload(name, e)
		return
	case "finding":
		p.end()
		p.a.warn("%s%s", name, e.Text)
		return
	}
	p.end()
	switch e.Kind {
	case "address":
		p.a.progress("%s%s has the address %s", name, e.Part, e.Text)
	case "component":
		p.a.progress("%s%s: %s", name, e.Part, e.Text)
	case "waiting":
		p.a.progress("%sstill waiting: %s", name, e.Text)
	case "removed":
		p.a.progress("%sremoved %s", name, e.Text)
	case "left":
		p.a.progress("%sleft: %s", name, e.Text)
	default:
		p.a.progress("%s%s", name, e.Text)
	}
}

// end finishes an unfinished line.
func (p *vchProgress) end() {
	if p.bar {
		p.bar = false
		p.a.stderrLock.Lock()
		fmt.Fprintln(p.a.stderr)
		p.a.stderrLock.Unlock()
	}
}

func (p *vchProgress) upload(name string, e vch.Event) {
	now := p.a.now()
	if p.began == nil {
		p.began, p.last = map[string]time.Time{}, map[string]time.Time{}
	}
	if _, ok := p.began[e.VCH]; !ok || e.Done == 0 {
		p.began[e.VCH], p.last[e.VCH] = now, now
	}
	line := printable(name) + uploadLine(e.Done, e.Total, now.Sub(p.began[e.VCH]))
	if !p.a.terminal(p.a.stderr) {
		if e.Done == e.Total || now.Sub(p.last[e.VCH]) >= plainEvery {
			p.last[e.VCH] = now
			p.a.progress("%s", line)
		}
		return
	}
	p.a.stderrLock.Lock()
	fmt.Fprintf(p.a.stderr, "\r%s\x1b[K", line)
	p.a.stderrLock.Unlock()
	p.bar = true
	if e.Done == e.Total {
		p.end()
	}
}

const barWidth = 24

// uploadLine says how far an upload is, how fast, and how long it will take.
func uploadLine(done, total int64, took time.Duration) string {
	part := float64(done) / float64(max(total, 1))
	full := int(part * barWidth)
	line := fmt.Sprintf("upload [%s%s] %3.0f%%  %s of %s", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), 100*part, megabytes(done), megabytes(total))
	rate := float64(done) / took.Seconds()
	if took < 500*time.Millisecond || done == 0 {
		return line
	}
	line += fmt.Sprintf("  %s/s", megabytes(int64(rate)))
	if done < total {
		line += fmt.Sprintf("  %v left", time.Duration(float64(total-done)/rate*float64(time.Second)).Round(time.Second))
	}
	return line
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
