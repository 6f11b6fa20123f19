package main

import (
	"fmt"
	"time"

	"github.com/labctl/labctl/esxi/vch"
)

// vchProgress shows the events of package vch: as JSON lines, or on stderr. On a
// terminal an upload is one line that fills up; elsewhere a line every ten
// seconds. The library calls it for one event at a time.
type vchProgress struct {
	a     *app
	bar   liveLine
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
func (p *vchProgress) end() { p.bar.end() }

func (p *vchProgress) upload(name string, e vch.Event) {
	now := p.a.now()
	if p.began == nil {
		p.began, p.last = map[string]time.Time{}, map[string]time.Time{}
	}
	if _, ok := p.began[e.VCH]; !ok || e.Done == 0 {
		p.began[e.VCH], p.last[e.VCH] = now, now
	}
	line := progressBar{what: printable(name) + "upload", done: e.Done, total: e.Total, took: now.Sub(p.began[e.VCH]), unit: megabytes}
	p.bar.a = p.a
	if !p.bar.draw(&line) && (e.Done == e.Total || now.Sub(p.last[e.VCH]) >= plainEvery) {
		p.last[e.VCH] = now
		p.a.progress("%s", line.text(0))
	}
	if e.Done == e.Total {
		p.end()
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
