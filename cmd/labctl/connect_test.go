package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi"
)

// Which host is meant: the argument, --url, LABCTL_URL, the only one of the
// config, GOVC_URL, in that order.
func TestTarget(t *testing.T) {
	const (
		one    = "version: 1\nhosts: [{name: nuc01, url: \"https://root@nuc01\"}]\n"
		two    = "version: 1\nhosts: [{name: nuc01, url: \"https://root@nuc01\"}, {name: nuc02, url: \"https://root@nuc02\"}]\n"
		vc     = "version: 1\nvcenter: {url: \"https://boss@vcsa\"}\n"
		inner  = "hosts: [{name: nuc01, url: \"https://root@nuc01\"}, {name: inner, keyboard: \"vm://nuc01/inner\"}"
		nested = vc + inner
		both   = vc + "hosts: [{name: nuc01, url: \"https://root@nuc01\"}, {name: bare}]\n"
	)
	for _, tc := range []struct {
		file, arg string
		vars      []string
		flags     []string
		want      string // name esxi-host vcenter-host, or !part of the error
	}{
		{one, "nuc01", nil, nil, "nuc01 nuc01 -"},
		{one, "NUC01", nil, nil, "nuc01 nuc01 -"},
		{one, "", nil, nil, "nuc01 nuc01 -"},
		{two, "nuc02", nil, nil, "nuc02 nuc02 -"},
		{two, "", nil, nil, "!several hosts, name one: nuc01, nuc02"},
		{two, "nuc03", nil, nil, "!no host is called nuc03: the config holds nuc01, nuc02"},
		{both, "nuc01", nil, nil, "nuc01 nuc01 vcsa"},
		{both, "bare", nil, nil, "bare - vcsa"},
		{nested + "]\n", "", nil, nil, "nuc01 nuc01 vcsa"},
		{nested + "]\n", "inner", nil, nil, "inner - vcsa"},
		{nested + ", {name: nuc02, url: \"https://root@nuc02\"}]\n", "", nil, nil, "!several hosts"},
		{both, "", nil, nil, "!several hosts"},
		{vc, "", nil, nil, " - vcsa"},
		{vc, "any", nil, nil, "any - vcsa"},
		{"", "", nil, nil, "!no host is configured"},
		{"", "", nil, []string{"--url", "https://root@x:8443"}, "x x:8443 -"},
		{"", "named", nil, []string{"--url", "root@x"}, "named x -"},
		{"", "", []string{"LABCTL_URL=https://root@l", "GOVC_URL=https://root@g"}, nil, "l l -"},
		{"", "", []string{"GOVC_URL=https://g", "GOVC_USERNAME=root"}, nil, "g g -"},
		{"", "", []string{"GOVC_URL=https://g"}, nil, "!GOVC_URL: no user"},
		{"", "", []string{"GOVC_URL=https://root:pw@g"}, nil, "!a password in a URL"},
		{one, "", []string{"LABCTL_URL=https://root@l"}, nil, "l l -"},
		{one, "", []string{"GOVC_URL=https://root@g"}, nil, "nuc01 nuc01 -"},
		{one, "nuc01", []string{"LABCTL_URL=https://root@l"}, nil, "nuc01 nuc01 -"},
		{one, "nuc01", nil, []string{"--url", "https://root@x"}, "!give one of them"},
		{both, "", nil, []string{"--url", "https://root@x"}, "x x -"},
		{both, "", nil, []string{"--url", "https://root@x", "--vcenter", "https://boss@v"}, "x x v"},
		{one, "other", nil, []string{"--vcenter", "https://boss@v"}, "other - v"},
		{one, "", nil, []string{"--insecure", "--thumbprint", strings.Repeat("AA", 32)}, "!exclude each other"},
		{one, "", nil, []string{"--thumbprint", "AA"}, "!neither 32 bytes"},
	} {
		vars := tc.vars
		if tc.file != "" {
			vars = append(vars, "LABCTL_CONFIG="+writeTemp(t, "labctl.yaml", tc.file))
		}
		got, err := targetOf(t, testEnv(t, vars...), tc.arg, tc.flags...)
		if part, isErr := strings.CutPrefix(tc.want, "!"); isErr {
			if err == nil || !strings.Contains(err.Error(), part) || exitCode(t.Context(), err) != exitUsage {
				t.Errorf("%s %v %v: got %v, want %q with exit 2", tc.arg, tc.vars, tc.flags, err, part)
			}
			if err != nil && strings.Contains(err.Error(), "pw") {
				t.Errorf("the password is in the error: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %v %v: %v", tc.arg, tc.vars, tc.flags, err)
			continue
		}
		host := func(e *esxi.Endpoint) string {
			if e == nil {
				return "-"
			}
			return e.URL.Host
		}
		if s := fmt.Sprintf("%s %s %s", got.Name, host(got.ESXi), host(got.VCenter)); s != tc.want {
			t.Errorf("%s %v %v: got %q, want %q", tc.arg, tc.vars, tc.flags, s, tc.want)
		}
	}
}

func targetOf(t *testing.T, e *env, name string, args ...string) (*target, error) {
	t.Helper()
	a := &app{env: e}
	s, err := loadSettings(testFlags(args...), e)
	if err != nil {
		return nil, err
	}
	a.load = func() (*settings, error) { return s, nil }
	return a.target(name)
}

// Where the pin comes from: this run's, the config's, the one host trust
// stored; and --insecure never goes with one of the first two.
func TestThumbprintPrecedence(t *testing.T) {
	pin := func(b string) string { return strings.TrimSuffix(strings.Repeat(b+":", 32), ":") }
	pinned := "version: 1\nhosts: [{name: n, url: \"https://root@n\", thumbprint: \"" + pin("CC") + "\"}]\n"
	open := "version: 1\nhosts: [{name: n, url: \"https://root@N\"}]\n"
	for _, tc := range []struct {
		file  string
		flags []string
		vars  []string
		want  string
	}{
		{pinned, []string{"--thumbprint", pin("AA")}, []string{"LABCTL_THUMBPRINT=" + pin("BB")}, pin("AA")},
		{pinned, nil, []string{"LABCTL_THUMBPRINT=" + strings.Repeat("bb", 32)}, pin("BB")},
		{pinned, nil, nil, pin("CC")},
		{open, nil, nil, pin("DD")},
		{open, []string{"--insecure"}, nil, ""},
		{pinned, []string{"--insecure"}, nil, "!--insecure would ignore it"},
	} {
		e := testEnv(t, append(tc.vars, "LABCTL_CONFIG="+writeTemp(t, "labctl.yaml", tc.file))...)
		if err := (&app{env: e}).trustCertificate("n:443", pin("DD")); err != nil {
			t.Fatal(err)
		}
		got, err := targetOf(t, e, "", tc.flags...)
		if part, isErr := strings.CutPrefix(tc.want, "!"); isErr {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v: got %v, want %q", tc.flags, err, part)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v %v: %v", tc.flags, tc.vars, err)
		} else if got.ESXi.Thumbprint != tc.want || got.ESXi.Insecure != (tc.want == "") {
			t.Errorf("%v %v: got %s", tc.flags, tc.vars, got.ESXi.Thumbprint)
		}
	}
}

// --thumbprint is the host's where there are both, so it never pins vCenter.
func TestThumbprintIsTheHosts(t *testing.T) {
	print := strings.TrimSuffix(strings.Repeat("AA:", 32), ":")
	got, err := targetOf(t, testEnv(t), "", "--url", "root@h", "--vcenter", "boss@v", "--thumbprint", print)
	if err != nil {
		t.Fatal(err)
	}
	if got.ESXi.Thumbprint != print || got.VCenter.Thumbprint != "" {
		t.Errorf("host %q, vcenter %q", got.ESXi.Thumbprint, got.VCenter.Thumbprint)
	}
}

func TestPasswordSources(t *testing.T) {
	file := writeTemp(t, "pw", "from-file\r\n")
	empty := writeTemp(t, "empty", "\n")
	for _, tc := range []struct {
		access Access
		vars   []string
		want   string // the password, or !part of the error
	}{
		{Access{PasswordCommand: []string{"printf", "%s\n", "from command"}}, nil, "from command"},
		{Access{PasswordCommand: []string{"printf", " keeps spaces "}}, nil, " keeps spaces "},
		{Access{PasswordCommand: []string{"echo", "$HOME"}}, nil, "$HOME"}, // no shell
		{Access{PasswordCommand: []string{"printf", "a\nb\n"}}, nil, "!more than one line"},
		{Access{PasswordCommand: []string{"true"}}, nil, "!gives no password"},
		{Access{PasswordCommand: []string{"sh", "-c", "echo hunter2; echo hunter2 >&2; exit 3"}}, nil, "!password_command sh failed: exit status 3"},
		{Access{PasswordCommand: []string{"no-such-program-hunter2x", "hunter2"}}, nil, "!there is no program"},
		{Access{PasswordEnv: "PW"}, []string{"PW=from-env"}, "from-env"},
		{Access{PasswordEnv: "PW"}, []string{"PW=", "LABCTL_PASSWORD=x"}, "!variable PW gives no password"},
		{Access{PasswordEnv: "PW"}, nil, "!variable PW gives no password"},
		{Access{PasswordFile: file}, nil, "from-file"},
		{Access{PasswordFile: empty}, nil, "!gives no password"},
		{Access{PasswordFile: file + "x"}, nil, "!no such file"},
		{Access{}, []string{"LABCTL_PASSWORD=own", "GOVC_PASSWORD=other"}, "own"},
		{Access{}, []string{"LABCTL_PASSWORD=", "GOVC_PASSWORD=other"}, "other"},
		{Access{}, nil, "!give LABCTL_PASSWORD or a password_* line"},
		{Access{PasswordFile: file}, []string{"LABCTL_PASSWORD=own"}, "from-file"},
	} {
		a := &app{env: testEnv(t, tc.vars...)}
		got, err := a.password(t.Context(), &tc.access, "host n", "password of root on n:", []string{"LABCTL_PASSWORD", "GOVC_PASSWORD"})
		part, wantErr := strings.CutPrefix(tc.want, "!")
		switch {
		case wantErr:
			if err == nil || !strings.Contains(err.Error(), part) || exitCode(t.Context(), err) != exitUsage {
				t.Errorf("%+v %v: got %v, want %q with exit 2", tc.access, tc.vars, err, part)
			}
			a.report(t.Context(), err)
			if s := a.stderr.(*bytes.Buffer).String(); strings.Contains(strings.ReplaceAll(s, "hunter2x", ""), "hunter2") {
				t.Errorf("a secret is shown: %s", s)
			}
		case err != nil || got.Reveal() != tc.want:
			t.Errorf("%+v %v: got %q, %v, want %q", tc.access, tc.vars, got.Reveal(), err, tc.want)
		}
	}
}

// A password file that others can read is used, with a warning.
func TestPasswordFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o640: true, 0o604: true} {
		if err := os.WriteFile(path, []byte("pw"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		e := testEnv(t)
		a := &app{env: e}
		if _, err := a.secretFile(path); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(e.stderr.(*bytes.Buffer).String(), "chmod 600"); got != warns {
			t.Errorf("mode %04o: warned %v", mode, got)
		}
	}
}

// A command that hangs ends with its context, also when a child of it keeps
// the pipe open.
func TestPasswordCommandEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a := &app{env: testEnv(t)}
	start := time.Now()
	_, err := a.commandOutput(ctx, []string{"sh", "-c", "sleep 30 & sleep 30"})
	if err == nil || time.Since(start) > 20*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// Two connections of one command ask for the same password once.
func TestPasswordIsAskedOnce(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	a := &app{env: testEnv(t)}
	access := &Access{PasswordCommand: []string{"sh", "-c", "echo x >> " + count + "; echo pw"}}
	for range 2 {
		source := a.passwords.source(a, access, "host n", "password:", []string{"LABCTL_PASSWORD"})
		if s, err := source(t.Context()); err != nil || s.Reveal() != "pw" {
			t.Fatal(s, err)
		}
	}
	if b, _ := os.ReadFile(count); len(b) != 2 {
		t.Errorf("the command ran %d times", len(b)/2)
	}
}

func trust(t *testing.T, e *env, args ...string) (int, hostTrustResult, string) {
	t.Helper()
	code, out, errText := invoke(t, e, append([]string{"host", "trust", "-o", "json"}, args...)...)
	var r hostTrustResult
	if code == 0 {
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	} else if out != "" {
		t.Errorf("output with exit %d: %s", code, out)
	}
	return code, r, errText
}

// Trust without a terminal: --yes takes a first certificate, a changed one
// needs its thumbprint, a wrong thumbprint is refused and nothing is stored.
func TestHostTrust(t *testing.T) {
	server := tlsServer(t)
	fingerprint := esxi.SHA256Fingerprint(server.Certificate())
	e := testEnv(t)
	url := []string{"--url", server.URL}
	a := &app{env: e}
	hostPort := strings.TrimPrefix(server.URL, "https://")
	known := func() string {
		t.Helper()
		s, err := a.knownCertificate(hostPort)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	if code, _, errText := trust(t, e, url...); code != exitUsage || !strings.Contains(errText, "--yes") || !strings.Contains(errText, fingerprint) || known() != "" {
		t.Errorf("without an answer: exit %d, stored %q, %s", code, known(), errText)
	}
	wrong := strings.TrimSuffix(strings.Repeat("AA:", 32), ":")
	if code, _, errText := trust(t, e, append(url, "--thumbprint", wrong, "--yes")...); code != exitFailed || !strings.Contains(errText, fingerprint) || known() != "" {
		t.Errorf("wrong thumbprint: exit %d, stored %q, %s", code, known(), errText)
	}
	if code, r, errText := trust(t, e, append(url, "--yes")...); code != 0 || r.Status != "trusted" || r.SHA256 != fingerprint || known() != fingerprint {
		t.Errorf("--yes: exit %d, %+v, stored %q, %s", code, r, known(), errText)
	}
	if code, r, _ := trust(t, e, url...); code != 0 || r.Status != "unchanged" {
		t.Errorf("again: exit %d, %+v", code, r)
	}

	// The same address now shows another certificate.
	if err := a.trustCertificate(hostPort, wrong); err != nil {
		t.Fatal(err)
	}
	code, _, errText := trust(t, e, append(url, "--yes")...)
	if code != exitUsage || !strings.Contains(errText, wrong) || !strings.Contains(errText, fingerprint) || known() != wrong {
		t.Errorf("changed, --yes: exit %d, stored %q, %s", code, known(), errText)
	}
	if code, r, errText := trust(t, e, append(url, "--thumbprint", esxi.SHA1Fingerprint(server.Certificate()))...); code != 0 || r.Before != wrong || known() != fingerprint {
		t.Errorf("changed, with its thumbprint: exit %d, %+v, %s", code, r, errText)
	}
	path, _ := a.statePath(knownCertsFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("known certificates: %v, %v", info, err)
	}
}

// A pin in the config is not overruled by trusting.
func TestHostTrustAgainstThePin(t *testing.T) {
	server := tlsServer(t)
	file := func(pin string) string {
		return "version: 1\nhosts:\n  - name: n\n    url: " + server.URL + "\n    thumbprint: \"" + pin + "\"\n"
	}
	wrong := strings.TrimSuffix(strings.Repeat("AA:", 32), ":")
	path := writeTemp(t, "labctl.yaml", file(wrong))
	code, _, errText := trust(t, testEnv(t, "LABCTL_CONFIG="+path), "n", "--yes")
	if code != exitFailed || !strings.Contains(errText, path+":5") {
		t.Errorf("exit %d, %s", code, errText)
	}
	path = writeTemp(t, "labctl.yaml", file(esxi.SHA256Fingerprint(server.Certificate())))
	if code, r, errText := trust(t, testEnv(t, "LABCTL_CONFIG="+path), "n"); code != 0 || r.Status != "unchanged" {
		t.Errorf("exit %d, %+v, %s", code, r, errText)
	}
}

// A line of the file that does not read must not lose a pin silently.
func TestKnownCertificatesAreStrict(t *testing.T) {
	e := testEnv(t)
	a := &app{env: e}
	if err := a.trustCertificate("a:443", "AA"); err != nil {
		t.Fatal(err)
	}
	path, _ := a.statePath(knownCertsFile)
	if err := os.WriteFile(path, []byte("# mine\na:443 AA\nb:443\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.knownCertificate("a:443"); err == nil || !strings.Contains(err.Error(), "known_certs:3:1") {
		t.Errorf("got %v", err)
	}
}
