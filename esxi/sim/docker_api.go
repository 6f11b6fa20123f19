package sim

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dockerVersion is the newest version of the Docker API that VIC speaks, dockerOldest the oldest.
const (
	dockerVersion = "1.25"
	dockerOldest  = 19 // of 1.x
)

// serve serves the Docker API.
func (e *engine) serve(ln net.Listener, conf *tls.Config) *http.Server {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, h) }
	of := func(h func(w http.ResponseWriter, r *http.Request, c *container)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c := e.find(r.PathValue("id"))
			if c == nil {
				refuseDocker(w, http.StatusNotFound, "No such container: %s", r.PathValue("id"))
				return
			}
			h(w, r, c)
		}
	}
	handle("GET /_ping", e.ping)
	handle("GET /info", e.info)
	handle("GET /version", e.version)
	handle("GET /events", e.events)
	handle("POST /images/create", e.pullImage)
	handle("GET /images/json", e.listImages)
	handle("GET /images/{id...}", e.inspectImage)
	handle("GET /networks", func(w http.ResponseWriter, r *http.Request) {
		answerDocker(w, http.StatusOK, []any{map[string]any{"Name": "bridge", "Id": "bridge", "Driver": "bridge", "Scope": "local"}})
	})
	handle("GET /volumes", func(w http.ResponseWriter, r *http.Request) {
		answerDocker(w, http.StatusOK, map[string]any{"Volumes": []any{}, "Warnings": nil})
	})
	handle("GET /containers/json", e.listContainers)
	handle("POST /containers/create", e.createContainer)
	handle("GET /containers/{id}/json", of(e.inspectContainer))
	handle("POST /containers/{id}/start", of(e.startContainer))
	handle("POST /containers/{id}/wait", of(e.waitContainer))
	handle("GET /containers/{id}/logs", of(e.logs))
	handle("POST /containers/{id}/attach", of(e.attach))
	handle("POST /containers/{id}/resize", of(func(w http.ResponseWriter, r *http.Request, c *container) { w.WriteHeader(http.StatusOK) }))
	for _, way := range []string{"stop", "kill"} {
		handle("POST /containers/{id}/"+way, of(e.stopContainer))
	}
	handle("DELETE /containers/{id}", of(e.removeContainer))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuseDocker(w, http.StatusNotImplemented, "%s %s is not implemented", r.Method, r.URL.Path)
	})
	server := &http.Server{Handler: e.wired(versioned(mux)), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	go func() { _ = server.Serve(ln) }() // ends when the VCH does
	return server
}

// admin serves the administrator's page on every address of the appliance.
func (a *appliance) admin(claims []net.Listener) {
	conf, err := a.config.tls()
	if err != nil {
		return
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if text, err := os.ReadFile(a.logFile()); err == nil {
			_, _ = w.Write(text)
		}
	})}
	for _, ln := range claims {
		if conf != nil {
			ln = tls.NewListener(ln, conf)
		}
		go func() { _ = server.Serve(ln) }()
	}
	<-a.life.Done()
	_ = server.Close()
}

// wired cuts connections when the client network's adapter has lost its way to the wire.
func (e *engine) wired(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, dark, err := e.a.adapter("client"); err != nil || dark != "" {
			cut(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

var versionPath = regexp.MustCompile(`^/v1\.(\d+)(/.*)$`)

// versioned takes the version off the path, and refuses those that VIC does not speak.
func versioned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", dockerVersion)
		w.Header().Set("Server", "Docker/1.13.0 (linux)")
		w.Header().Set("Ostype", "linux")
		if m := versionPath.FindStringSubmatch(r.URL.Path); m != nil {
			switch n, _ := strconv.Atoi(m[1]); {
			case n > 25:
				refuseDocker(w, http.StatusBadRequest, "client is newer than server (client API version: 1.%d, server API version: %s)", n, dockerVersion)
				return
			case n < dockerOldest:
				refuseDocker(w, http.StatusBadRequest, "client version 1.%d is too old. Minimum supported API version is 1.%d", n, dockerOldest)
				return
			}
			r.URL.Path, r.URL.RawPath = m[2], ""
		}
		next.ServeHTTP(w, r)
	})
}

func answerDocker(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func refuseDocker(w http.ResponseWriter, code int, format string, args ...any) {
	answerDocker(w, code, map[string]string{"message": fmt.Sprintf(format, args...)})
}

func (e *engine) ping(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "OK")
}

// driver is how VIC names itself where Docker names its storage driver.
func (e *engine) driver() string {
	return "vSphere Integrated Containers " + e.a.config.text("init/version/Version") + " Backend Engine"
}

func (e *engine) info(w http.ResponseWriter, r *http.Request) {
	c := e.a.config
	var labels []string
	for _, l := range c.names("storage/VolumeLocations") {
		labels = append(labels, strings.TrimSuffix(l, "/"))
	}
	e.mu.Lock()
	running := 0
	for _, k := range e.containers {
		if k.state == "running" {
			running++
		}
	}
	total, images := len(e.containers), len(e.images)
	e.mu.Unlock()
	answerDocker(w, http.StatusOK, map[string]any{
		"ID": "vSphere Integrated Containers", "Name": e.a.name, "Driver": e.driver(), "OperatingSystem": "linux", "OSType": "linux", "Architecture": "x86_64",
		"ServerVersion": c.text("init/version/Version"), "Containers": total, "ContainersRunning": running, "ContainersStopped": total - running, "Images": images,
		"NCPU": 2, "MemTotal": int64(2) << 30, "KernelVersion": "4.4.41", "LoggingDriver": "", "SystemTime": time.Now().UTC().Format(time.RFC3339Nano),
		"SystemStatus": [][2]string{
			{"VolumeStores", strings.Join(labels, " ")}, {e.driver(), "RUNNING"}, {" VCH CPU limit", "Unlimited"}, {" VCH memory limit", "Unlimited"},
			{" Bridge Networks", c.text("network/bridge_network")},
		},
		"Plugins": map[string]any{"Volume": []string{"vsphere"}, "Network": []string{"bridge"}}, "RegistryConfig": map[string]any{},
	})
}

func (e *engine) version(w http.ResponseWriter, r *http.Request) {
	c := e.a.config
	answerDocker(w, http.StatusOK, map[string]any{
		"Version": c.text("init/version/Version"), "ApiVersion": dockerVersion, "MinAPIVersion": fmt.Sprintf("1.%d", dockerOldest),
		"GitCommit": c.text("init/version/GitCommit"), "GoVersion": "go1.13", "Os": "linux", "Arch": "amd64", "BuildTime": c.text("init/version/BuildDate"),
	})
}

func (e *engine) pullImage(w http.ResponseWriter, r *http.Request) {
	ref := r.URL.Query().Get("fromImage")
	img, err := e.pull(ref)
	if err != nil {
		refuseDocker(w, http.StatusNotFound, "%v", err)
		return
	}
	tag := r.URL.Query().Get("tag")
	if tag == "" {
		tag = "latest"
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	short := img.layer[:12]
	for _, line := range []map[string]any{
		{"status": "Pulling from library/" + img.repo, "id": tag},
		{"status": "Pulling fs layer", "progressDetail": map[string]any{}, "id": short},
		{"status": "Downloading", "progressDetail": map[string]any{"current": img.size, "total": img.size}, "id": short},
		{"status": "Pull complete", "progressDetail": map[string]any{}, "id": short},
		{"status": "Digest: sha256:" + img.id},
		{"status": "Status: Downloaded newer image for library/" + img.repo + ":" + tag},
	} {
		_ = enc.Encode(line)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

func (i *dockerImage) summary() map[string]any {
	return map[string]any{
		"Id": "sha256:" + i.id, "ParentId": "", "RepoTags": []string{i.repo + ":latest"}, "RepoDigests": []string{}, "Created": i.pulled.Unix(),
		"Size": i.size, "VirtualSize": i.size, "Labels": map[string]string{},
	}
}

func (e *engine) listImages(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	list := []any{}
	for _, i := range e.images {
		list = append(list, i.summary())
	}
	e.mu.Unlock()
	answerDocker(w, http.StatusOK, list)
}

func (e *engine) inspectImage(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(r.PathValue("id"), "/json")
	i := e.imageOf(name)
	if !ok || i == nil {
		refuseDocker(w, http.StatusNotFound, "No such image: %s", name)
		return
	}
	answerDocker(w, http.StatusOK, map[string]any{
		"Id": "sha256:" + i.id, "RepoTags": []string{i.repo + ":latest"}, "Created": i.pulled.UTC().Format(time.RFC3339Nano), "Size": i.size,
		"Os": "linux", "Architecture": "amd64", "Config": map[string]any{"Cmd": i.command},
	})
}

// status is a container's state in Docker's words.
func (c *container) status() string {
	switch c.state {
	case "running":
		return "Up Less than a second"
	case "exited":
		return fmt.Sprintf("Exited (%d) Less than a second ago", c.exit)
	}
	return "Created"
}

func (e *engine) listContainers(w http.ResponseWriter, r *http.Request) {
	all := r.URL.Query().Get("all")
	e.mu.Lock()
	list := []any{}
	for _, c := range slices.Backward(e.containers) {
		if c.state != "running" && all != "1" && all != "true" {
			continue
		}
		list = append(list, map[string]any{
			"Id": c.id, "Names": []string{"/" + c.name}, "Image": c.image.repo, "ImageID": c.image.id, "Command": strings.Join(c.argv, " "),
			"Created": c.created.Unix(), "State": c.state, "Status": c.status(), "Ports": []any{}, "Labels": c.labels,
			"HostConfig": map[string]any{"NetworkMode": "default"}, "NetworkSettings": map[string]any{"Networks": map[string]any{}}, "Mounts": []any{},
		})
	}
	e.mu.Unlock()
	answerDocker(w, http.StatusOK, list)
}

func (e *engine) createContainer(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Image      string
		Cmd        []string
		Entrypoint []string
		Tty        bool
		Labels     map[string]string
		HostConfig struct{ AutoRemove bool }
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&req); err != nil {
		refuseDocker(w, http.StatusBadRequest, "the container's configuration cannot be read")
		return
	}
	img := e.imageOf(req.Image)
	if img == nil {
		refuseDocker(w, http.StatusNotFound, "No such image: %s", req.Image)
		return
	}
	if req.Labels == nil {
		req.Labels = map[string]string{}
	}
	c, err := e.create(r.URL.Query().Get("name"), img, append(req.Entrypoint, req.Cmd...), req.Tty, req.HostConfig.AutoRemove, req.Labels)
	if err != nil {
		refuseDocker(w, http.StatusConflict, "%v", err)
		return
	}
	answerDocker(w, http.StatusCreated, map[string]any{"Id": c.id, "Warnings": nil})
}

func (e *engine) inspectContainer(w http.ResponseWriter, r *http.Request, c *container) {
	e.mu.Lock()
	v := map[string]any{
		"Id": c.id, "Name": "/" + c.name, "Created": c.created.UTC().Format(time.RFC3339Nano), "Image": "sha256:" + c.image.id,
		"Path": c.argv[0], "Args": c.argv[1:], "Driver": e.driver(),
		"State": map[string]any{
			"Status": c.state, "Running": c.state == "running", "ExitCode": c.exit,
			"StartedAt": c.started.UTC().Format(time.RFC3339Nano), "FinishedAt": c.finished.UTC().Format(time.RFC3339Nano),
		},
		"Config":          map[string]any{"Image": c.image.repo, "Cmd": c.argv, "Tty": c.tty, "Labels": c.labels},
		"HostConfig":      map[string]any{"AutoRemove": c.remove},
		"NetworkSettings": map[string]any{"Networks": map[string]any{}},
		"Mounts":          []any{},
	}
	e.mu.Unlock()
	answerDocker(w, http.StatusOK, v)
}

func (e *engine) startContainer(w http.ResponseWriter, r *http.Request, c *container) {
	switch err := e.start(c); {
	case errors.Is(err, errRunning):
		w.WriteHeader(http.StatusNotModified)
	case err != nil:
		refuseDocker(w, http.StatusInternalServerError, "%v", err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (e *engine) waitContainer(w http.ResponseWriter, r *http.Request, c *container) {
	if err := e.wait(r.Context(), c); err != nil {
		return
	}
	e.mu.Lock()
	code := c.exit
	e.mu.Unlock()
	answerDocker(w, http.StatusOK, map[string]any{"StatusCode": code})
}

func (e *engine) stopContainer(w http.ResponseWriter, r *http.Request, c *container) {
	if err := e.halt(r.Context(), c); err != nil {
		refuseDocker(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (e *engine) removeContainer(w http.ResponseWriter, r *http.Request, c *container) {
	force := slices.Contains([]string{"1", "true"}, r.URL.Query().Get("force"))
	e.mu.Lock()
	running := c.state == "running"
	e.mu.Unlock()
	if running && !force {
		refuseDocker(w, http.StatusConflict, "You cannot remove a running container %s. Stop it first, or force it", c.id)
		return
	}
	err := e.halt(r.Context(), c)
	if err == nil {
		err = e.destroy(c)
	}
	if err != nil {
		refuseDocker(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// stream copies a container's output from a place on as it comes, framed as Docker does unless it has a terminal,
// until the container has ended that often or, if it is not followed, to where it is.
func (e *engine) stream(w io.Writer, gone <-chan struct{}, c *container, at, ends int, follow bool, flush func()) {
	for {
		e.mu.Lock()
		part := slices.Clone(c.out[at:])
		at = len(c.out)
		over, changed := c.ends >= ends, c.changed
		e.mu.Unlock()
		if len(part) > 0 {
			if !c.tty {
				head := [8]byte{0: 1} // standard output
				binary.BigEndian.PutUint32(head[4:], uint32(len(part)))
				part = append(head[:], part...)
			}
			if _, err := w.Write(part); err != nil {
				return
			}
			flush()
		}
		if over || !follow {
			return
		}
		select {
		case <-changed:
		case <-gone:
			return
		case <-e.a.life.Done():
			return
		}
	}
}

func (e *engine) logs(w http.ResponseWriter, r *http.Request, c *container) {
	q := r.URL.Query()
	w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	if q.Get("stdout") != "1" && q.Get("stdout") != "true" {
		return
	}
	flush := func() {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
	flush()
	e.mu.Lock()
	ends := c.ends
	if c.state != "exited" {
		ends++
	}
	e.mu.Unlock()
	e.stream(w, r.Context().Done(), c, 0, ends, q.Get("follow") == "1" || q.Get("follow") == "true", flush)
}

// attach hands the connection over to the container. Nothing is done with what the client types.
func (e *engine) attach(w http.ResponseWriter, r *http.Request, c *container) {
	h, ok := w.(http.Hijacker)
	if !ok {
		refuseDocker(w, http.StatusInternalServerError, "the connection cannot be taken over")
		return
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	e.mu.Lock()
	at, ends := len(c.out), c.ends+1 // who attaches to a container that has ended waits for it to be started again
	e.mu.Unlock()
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	_, _ = rw.WriteString(head)
	if rw.Flush() != nil {
		return
	}
	gone := make(chan struct{})
	go func() { // a client that only closes its sending half still listens
		_, _ = io.Copy(io.Discard, rw)
	}()
	e.stream(conn, gone, c, at, ends, r.URL.Query().Get("stream") == "1" || r.URL.Query().Get("stream") == "true", func() {})
}

// events streams what happens to containers, all or those that a filter names.
func (e *engine) events(w http.ResponseWriter, r *http.Request) {
	var filters map[string]map[string]bool
	_ = json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters)
	ch := make(chan event, 64)
	e.mu.Lock()
	e.listeners[ch] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.listeners, ch)
		e.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush := func() {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
	flush()
	enc := json.NewEncoder(w)
	for {
		select {
		case ev := <-ch:
			if want := filters["container"]; len(want) > 0 && !want[ev.container.id] && !want[ev.container.name] {
				continue
			}
			attrs := map[string]string{"image": ev.container.image.repo, "name": ev.container.name}
			if ev.exit != "" {
				attrs["exitCode"] = ev.exit
			}
			_ = enc.Encode(map[string]any{
				"status": ev.action, "id": ev.container.id, "from": ev.container.image.repo, "Type": "container", "Action": ev.action,
				"Actor": map[string]any{"ID": ev.container.id, "Attributes": attrs}, "time": ev.at.Unix(), "timeNano": ev.at.UnixNano(),
			})
			flush()
		case <-r.Context().Done():
			return
		case <-e.a.life.Done():
			return
		}
	}
}
