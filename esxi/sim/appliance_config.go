package sim

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
)

// The forms that a VCH's keys take in ExtraConfig: what the guest may read, and what it may also write.
const (
	readOnly  = "guestinfo.vice./"
	readWrite = "guestinfo.vice.."
	emptyText = "<nil>" // an empty string, since an empty value would delete the key
)

// guestConfig is a VCH's configuration as its appliance finds it. It is read by the rules of VIC and shares no code
// with what writes it.
type guestConfig map[string]string

// text reads a read-only setting.
func (c guestConfig) text(path string) string {
	v := c[readOnly+path]
	if v == emptyText {
		return ""
	}
	return v
}

// names reads the keys of a map.
func (c guestConfig) names(path string) []string {
	if v := c.text(path); v != "" {
		return strings.Split(v, "|")
	}
	return nil
}

// list reads a slice of strings, which is written as its last index and its joined elements.
func (c guestConfig) list(path string) ([]string, error) {
	last := c.text(path)
	if last == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(last)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is no index", path, last)
	}
	items := strings.Split(c[readOnly+path+"~"], "|")
	if len(items) != n+1 {
		return nil, fmt.Errorf("%s: %d elements, and the last has index %d", path, len(items), n)
	}
	return items, nil
}

// count reads how many elements a slice of structures has.
func (c guestConfig) count(path string) (int, error) {
	last := c.text(path)
	if last == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is no index", path, last)
	}
	return n + 1, nil
}

func (c guestConfig) flag(path string) bool { return c.text(path) == "true" }

// bytes reads a byte slice, nil if it is not there.
func (c guestConfig) bytes(path string) ([]byte, error) {
	v := c.text(path)
	if v == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// ip reads an address, which is written with 16 bytes, or 4.
func (c guestConfig) ip(path string) (net.IP, error) {
	b, err := c.bytes(path)
	if err != nil || b == nil {
		return nil, err
	}
	if len(b) != net.IPv4len && len(b) != net.IPv6len {
		return nil, fmt.Errorf("%s: an address of %d bytes", path, len(b))
	}
	return net.IP(b), nil
}

// secret opens an encrypted setting with the key that the API does not show.
func (c guestConfig) secret(path string) (string, error) {
	sealed, ok := c[readOnly+path+"@secret"]
	if !ok {
		return "", fmt.Errorf("%s is missing", path)
	}
	raw, err := base64.StdEncoding.DecodeString(c[ovfEnvKey])
	if err != nil || len(raw) != 32 {
		return "", fmt.Errorf("%s cannot be decrypted: there is no key in %s", path, ovfEnvKey)
	}
	box, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(box) < 24 {
		return "", fmt.Errorf("%s cannot be decrypted: it is malformed", path)
	}
	var nonce [24]byte
	copy(nonce[:], box)
	text, ok := secretbox.Open(nil, box[24:], &nonce, (*[32]byte)(raw))
	if !ok {
		return "", fmt.Errorf("%s cannot be decrypted: the key is another one", path)
	}
	if string(text) == emptyText {
		return "", nil
	}
	return string(text), nil
}

// daemon is one of the programs that an appliance runs.
type daemon struct {
	path string
	args []string
	env  []string
}

// daemon reads a program's command line, which must be of that path.
func (c guestConfig) daemon(name, path string) (*daemon, error) {
	p := "init/sessions|" + name
	if !slices.Contains(c.names("init/sessions"), name) {
		return nil, errors.New("it is not among init/sessions")
	}
	s := &daemon{path: c.text(p + "/cmd/Path")}
	if s.path != path {
		return nil, fmt.Errorf("exec %q: no such file or directory", s.path)
	}
	var err error
	if s.args, err = c.list(p + "/cmd/Args"); err != nil {
		return nil, err
	}
	if s.env, err = c.list(p + "/cmd/Env"); err != nil {
		return nil, err
	}
	if len(s.args) == 0 || s.args[0] != path {
		return nil, fmt.Errorf("the arguments of %s do not begin with it", path)
	}
	if id := c.text(p + "/common/id"); id != name {
		return nil, fmt.Errorf("session %s has id %q", name, id)
	}
	return s, nil
}

// option is the value of -name=value or --name=value among arguments, or of NAME=value in an environment.
func option(items []string, name string) string {
	for _, a := range items {
		if k, v, ok := strings.Cut(strings.TrimLeft(a, "-"), "="); ok && k == name {
			return v
		}
	}
	return ""
}

// tls makes the configuration of the Docker endpoint: none without a host certificate, and with authorities for
// clients only those that one of them has signed.
func (c guestConfig) tls() (*tls.Config, error) {
	cert, err := c.bytes("cert/HostCertificate/Cert")
	if err != nil || cert == nil {
		return nil, err
	}
	text, err := c.secret("cert/HostCertificate/Key")
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("cert/HostCertificate/Key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert/HostCertificate: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	cas, err := c.bytes("cert/CertificateAuthorities")
	if err != nil {
		return nil, err
	}
	if cas != nil {
		conf.ClientCAs = x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(cas) {
			return nil, errors.New("cert/CertificateAuthorities holds no certificate")
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// target reads where vSphere is to be reached.
func (c guestConfig) target() (*url.URL, error) {
	text := c.text("connect/target")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("connect/target: %q is no https URL", text)
	}
	if u.User != nil {
		return nil, errors.New("connect/target names a user")
	}
	return u, nil
}

// isoVolume is where an ISO 9660 image has its primary volume descriptor, the sixteenth sector of 2048 bytes.
const isoVolume = 16 * 2048

// wholeISO says why a file is not an ISO image in full length, or nil. The length is in the primary volume descriptor
// as a number of sectors; images that give none are taken as they are.
func wholeISO(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return errors.New("there is no such file")
	}
	defer f.Close()
	var d [128]byte
	if _, err := f.ReadAt(d[:], isoVolume); err != nil && !errors.Is(err, io.EOF) {
		return errors.New("it cannot be read")
	}
	if string(d[1:6]) != "CD001" {
		return errors.New("it is no ISO image")
	}
	info, err := f.Stat()
	if err != nil {
		return errors.New("it cannot be read")
	}
	if want := int64(binary.LittleEndian.Uint32(d[80:])) * 2048; info.Size() < want {
		return fmt.Errorf("it is cut off: %d of %d bytes", info.Size(), want)
	}
	return nil
}
