package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/labctl/labctl/esxi/vch"
)

type vchLogsResult struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Saved   string `json:"saved,omitempty"` // file on this machine that the text is from
	Log     string `json:"log"`
}

func (a *app) vchLogs(ctx context.Context, p *vchPlace, name string) error {
	s, done, err := a.vchDial(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	res := vchLogsResult{Version: 1, Name: name}
	text, err := vch.Logs(ctx, s.Client, name)
	var missing *vch.NotFoundError
	if errors.As(err, &missing) {
		dir, dirErr := a.vchDir(name)
		if dirErr != nil || dir == "" {
			return a.vchError(err)
		}
		saved, readErr := os.ReadFile(vch.LogFile(dir))
		if errors.Is(readErr, fs.ErrNotExist) {
			return a.vchError(err)
		}
		if readErr != nil {
			return fmt.Errorf("read the saved log: %w", readErr)
		}
		text, res.Saved, err = saved, vch.LogFile(dir), nil
		a.say("there is no VCH %s; this was saved when it did not come up", name)
	}
	if err != nil {
		return err
	}
	res.Log = string(text)
	if res.Saved == "" {
		a.nextLine = "how it stands: " + a.like("vch", "inspect", name)
	} else {
		a.nextLine = "to try again: " + a.like("vch", "up", name)
	}
	return a.result(res, func(pg *page) {
		for line := range strings.Lines(res.Log) {
			pg.printf("%s\n", strings.TrimRight(line, "\r\n"))
		}
	})
}

func writeVCH(pg *page, d *vch.Details, vmx bool) {
	fact := func(name, value string) {
		if value != "" {
			pg.printf("%-16s %s\n", name, value)
		}
	}
	pg.WriteString(pg.paint(bold, printable(d.Name)) + "\n")
	fact("id", d.ID)
	switch d.Marker {
	case "moved":
		fact("marker", "moved: its mark names another machine, as on a copy, or where host and vCenter count differently")
	case "creating":
		fact("marker", "creating: it was never finished")
	}
	fact("version", d.VersionString)
	fact("power", d.Power)
	fact("docker", d.DockerHost)
	fact("admin page", d.Admin)
	fact("pool", d.Pool)
	fact("machine", d.VMPath)
	fact("boot image", d.Images.Boot)
	fact("bootstrap image", d.Images.Bootstrap)
	for _, s := range d.Images.Stores {
		fact("image store", s)
	}
	for _, v := range d.Volumes {
		fact("volume store", v)
	}
	if !d.Expires.IsZero() {
		fact("expires", d.Expires.Local().Format("2006-01-02 15:04"))
	}
	dash := func(s string) string { return firstOf(s, "-") }
	if len(d.Networks) > 0 {
		pg.WriteString("\n")
		t := table{header: []string{"ROLE", "NETWORK", "ADAPTER", "SLOT", "MAC", "ADDRESS", "GATEWAY"}}
		for _, n := range d.Networks {
			how := dash(n.IP)
			if n.Static && n.IP != "" {
				how += " (static)"
			}
			t.row(plain, n.Role, dash(n.Network), dash(n.Label), dash(n.Slot), dash(n.MAC), how, dash(n.Gateway))
		}
		t.write(pg)
	}
	if len(d.Sessions) > 0 {
		pg.WriteString("\n")
		t := table{header: []string{"PROGRAM", "STATE", "COMMAND"}}
		for _, s := range d.Sessions {
			st := plain
			if s.State != "running" && d.Power == "on" {
				st = yellow
			}
			t.row(st, s.Name, s.State, strings.Join(s.Args, " "))
		}
		t.write(pg)
	}
	pg.WriteString("\n")
	if len(d.Containers) == 0 {
		pg.WriteString("no containers\n")
	}
	for _, c := range d.Containers {
		pg.WriteString(pg.paint(bold, printable("container "+c.Name)) + "\n")
		for _, f := range [][2]string{{"id", c.ID}, {"image", c.Repo}, {"command", c.Cmd}, {"state", c.State}, {"power", c.Power}, {"serial line", c.Serial}, {"network", c.Network}, {"disk", c.Disk}} {
			if f[1] != "" {
				pg.printf("  %-14s %s\n", f[0], f[1])
			}
		}
		if vmx {
			writeKeys(pg, c.VMX, "  ")
		}
	}
	if vmx {
		pg.WriteString("\n" + pg.paint(bold, "keys of "+printable(d.Name)) + "\n")
		writeKeys(pg, d.VMX, "")
	}
}

func writeKeys(pg *page, keys vch.Keys, indent string) {
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		pg.printf("%s%s = %q\n", indent, k, keys[k])
	}
}
