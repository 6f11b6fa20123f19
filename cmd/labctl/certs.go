package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Known certificates are lines of "host:port fingerprint" in the state folder,
// in the order of the hosts: what host trust stored.

const knownCertsFile = "known_certs"

// knownCertificate returns the stored fingerprint of host:port, or "". A line
// that does not read is an error: skipping it would skip a pin.
func (a *app) knownCertificate(hostPort string) (string, error) {
	known, err := a.knownCertificates()
	return known[strings.ToLower(hostPort)], err
}

func (a *app) knownCertificates() (map[string]string, error) {
	path, err := a.statePath(knownCertsFile)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the known certificates: %w", err)
	}
	known := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 2 {
			return nil, usagef("%s:%d:1: a line is host:port and a fingerprint", path, n)
		}
		known[strings.ToLower(words[0])] = words[1]
	}
	return known, lines.Err()
}

// trustCertificate stores a fingerprint, replacing an older one.
func (a *app) trustCertificate(hostPort, fingerprint string) error {
	unlock, err := a.lock("known_certs", "host trust")
	if err != nil {
		return err
	}
	defer unlock()
	known, err := a.knownCertificates()
	if err != nil {
		return err
	}
	if known == nil {
		known = map[string]string{}
	}
	known[strings.ToLower(hostPort)] = fingerprint
	hosts := make([]string, 0, len(known))
	for h := range known {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	var out strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&out, "%s %s\n", h, known[h])
	}
	dir, err := a.stateDir("")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, knownCertsFile), []byte(out.String()), true); err != nil {
		return fmt.Errorf("store the certificate: %w", err)
	}
	return nil
}

// writeFile writes a file that only this user can read, whole or not at all.
// Unless replace is set, an existing file is an error, also one that comes up
// in between.
func writeFile(path string, content []byte, replace bool) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(tmp.Name(), path)
	}
	return os.Link(tmp.Name(), path)
}
