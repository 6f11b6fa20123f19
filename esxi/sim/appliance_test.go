package sim

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// vchOf waits until a VCH is as wanted and gives its state.
func vchOf(t *testing.T, l *Lab, name string, want ...string) VCHState {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var st VCHState
		for _, v := range l.State().VCHs {
			if v.Name == name {
				st = v
			}
		}
		for _, w := range want {
			if st.Phase == w {
				return st
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("VCH %s is %+v, not %s", name, st, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestTheGoldenKeysBoot(t *testing.T) {
	l := start(t, Options{Scene: "vch", Boot: 20 * time.Millisecond})
	st := vchOf(t, l, "vch1", "up", "failed")
	if st.Phase != "up" || st.Pool != "vch1" {
		t.Fatalf("%+v", st)
	}
	same(t, "what the components say", st.Components, map[string]string{"port-layer": "true", "docker-personality": "true", "vicadmin": "true"})
	code, body := get(t, strings.Replace(st.DockerHost, "tcp", "https", 1)+"/info")
	var info struct {
		Driver       string
		SystemStatus [][2]string
	}
	if err := json.Unmarshal([]byte(body), &info); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	running := false
	for _, s := range info.SystemStatus {
		running = running || s == [2]string{info.Driver, "RUNNING"}
	}
	if !running {
		t.Errorf("the endpoint does not say that it runs: %s", body)
	}

	// The real client, where there is one.
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("no docker client here")
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t), docker, append([]string{"-H", st.DockerHost, "--tls", "--tlscacert="}, args...)...)
		cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := run("run", "--name", "greeter", "hello-world"); !strings.Contains(out, "Hello from Docker!") {
		t.Errorf("hello-world says %q", out)
	}
	boxes := vchOf(t, l, "vch1", "up").Containers
	if len(boxes) != 1 || boxes[0].Name != "greeter" || boxes[0].State != "exited" {
		t.Fatalf("containers: %+v", boxes)
	}
	c := connect(t, l, "vcenter")
	keys := c.settings(c.vm(boxes[0].VM))
	if keys[readOnly+"repo"] != "hello-world" || keys[readOnly+"common/id"] != boxes[0].ID {
		t.Errorf("the container's VM has repo %q, id %q", keys[readOnly+"repo"], keys[readOnly+"common/id"])
	}
	if out := run("logs", "greeter"); !strings.Contains(out, "Hello from Docker!") {
		t.Errorf("its log is %q", out)
	}
	if out := run("ps", "-a"); !strings.Contains(out, "greeter") {
		t.Errorf("it is not listed: %q", out)
	}
	run("rm", "greeter")
	if out := run("run", "--rm", "busybox", "echo", "one", "two"); !strings.Contains(out, "one two\n") {
		t.Errorf("busybox says %q", out)
	}
	run("run", "-d", "--name", "server", "nginx")
	if boxes := vchOf(t, l, "vch1", "up").Containers; len(boxes) != 1 || boxes[0].State != "running" {
		t.Errorf("containers: %+v", boxes)
	}
	run("rm", "-f", "server")
	for _, v := range l.State().Hosts[0].VMs {
		if strings.Contains(v.Name, "server") || strings.Contains(v.Name, "greeter") {
			t.Errorf("VM %s is left", v.Name)
		}
	}
}
