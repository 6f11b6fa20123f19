package esxi

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// defaultDialTimeout bounds TCP connect and TLS handshake together. A host on
// the same wire answers in milliseconds; a switch port that has just come up
// may take a second or two.
const defaultDialTimeout = 5 * time.Second

// PinError says that a server showed another certificate than the pinned one.
type PinError struct {
	Host      string // host:port
	Want, Got string // colon hex; Got in the hash that was pinned
}

func (e *PinError) Error() string {
	return fmt.Sprintf("%s shows another certificate than the pinned one: want %s, got %s", e.Host, e.Want, e.Got)
}

// UntrustedError says that a certificate is neither pinned nor vouched for by
// an authority of this machine.
type UntrustedError struct {
	Host        string // host:port
	Fingerprint string // SHA-256, colon hex
	Err         error
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("the certificate of %s is not trusted: %v", e.Host, e.Err)
}

func (e *UntrustedError) Unwrap() error { return e.Err }

// DialError says that no TLS connection came about.
type DialError struct {
	Host    string // host:port
	Timeout bool   // the dial time-out passed
	After   time.Duration
	Err     error
}

func (e *DialError) Error() string {
	if e.Timeout {
		return fmt.Sprintf("%s did not answer within %v", e.Host, e.After)
	}
	return fmt.Sprintf("connect to %s: %v", e.Host, plainNetError(e.Err))
}

func (e *DialError) Unwrap() error { return e.Err }

// plainNetError drops the addresses that net.OpError repeats.
func plainNetError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// SHA256Fingerprint returns the certificate's SHA-256 digest as upper-case
// colon hex, the form that ESXi's DCUI, vCenter and openssl print.
func SHA256Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return colonHex(sum[:])
}

// SHA1Fingerprint is the same with SHA-1, which vSphere calls the thumbprint.
func SHA1Fingerprint(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return colonHex(sum[:])
}

func colonHex(b []byte) string {
	s := strings.ToUpper(hex.EncodeToString(b))
	var out strings.Builder
	for i := 0; i < len(s); i += 2 {
		if i > 0 {
			out.WriteByte(':')
		}
		out.WriteString(s[i : i+2])
	}
	return out.String()
}

// ParseThumbprint normalises a SHA-256 or SHA-1 fingerprint to upper-case
// colon hex; colons, spaces and letter case do not matter on the way in.
func ParseThumbprint(s string) (string, error) {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(s))
	if err != nil || (len(b) != sha256.Size && len(b) != sha1.Size) {
		return "", fmt.Errorf("thumbprint %q is neither 32 bytes (SHA-256) nor 20 bytes (SHA-1) of hex", s)
	}
	return colonHex(b), nil
}

// fingerprintLike returns cert's digest in the hash that want is in.
func fingerprintLike(want string, cert *x509.Certificate) string {
	if len(want) == 3*sha1.Size-1 {
		return SHA1Fingerprint(cert)
	}
	return SHA256Fingerprint(cert)
}

// tlsConfig returns the client configuration that admits exactly what the
// endpoint allows. The pin is checked on every connection, resumed ones
// included, and is the whole check: an expired certificate is still the same
// host. InsecureSkipVerify only hands the decision to VerifyConnection.
func (e *Endpoint) tlsConfig() *tls.Config {
	host := hostPort(e.URL)
	c := &tls.Config{
		ServerName:         e.URL.Hostname(),
		InsecureSkipVerify: true,
	}
	switch {
	case e.Thumbprint != "":
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if got := fingerprintLike(e.Thumbprint, s.PeerCertificates[0]); got != e.Thumbprint {
				return &PinError{Host: host, Want: e.Thumbprint, Got: got}
			}
			return nil
		}
	case !e.Insecure:
		c.VerifyConnection = func(s tls.ConnectionState) error {
			pool := x509.NewCertPool()
			for _, cert := range s.PeerCertificates[1:] {
				pool.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: e.URL.Hostname(), Intermediates: pool})
			if err != nil {
				return &UntrustedError{Host: host, Fingerprint: SHA256Fingerprint(s.PeerCertificates[0]), Err: err}
			}
			return nil
		}
	}
	return c
}

// handshake opens one TLS connection within the endpoint's dial time-out.
func (e *Endpoint) handshake(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	limit := e.DialTimeout
	if limit <= 0 {
		limit = defaultDialTimeout
	}
	dialCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	host := hostPort(e.URL)
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(dialCtx, "tcp", host)
	if err == nil {
		return conn.(*tls.Conn), nil
	}
	var pin *PinError
	var untrusted *UntrustedError
	switch {
	case errors.As(err, &pin):
		return nil, pin
	case errors.As(err, &untrusted):
		return nil, untrusted
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &DialError{Host: host, Timeout: dialCtx.Err() != nil, After: limit, Err: err}
}

// FetchCertificate returns the certificate that the endpoint shows, without
// judging it and without sending a request. It is for a person to look at.
func FetchCertificate(ctx context.Context, e *Endpoint) (*x509.Certificate, error) {
	conn, err := e.handshake(ctx, &tls.Config{ServerName: e.URL.Hostname(), InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// Knock proves that the endpoint's machine is there and is the pinned one: one
// TLS handshake, no request, no password.
func Knock(ctx context.Context, e *Endpoint) error {
	conn, err := e.handshake(ctx, e.tlsConfig())
	if err != nil {
		return err
	}
	return conn.Close()
}

// hostPort returns host:port of an https URL, with 443 where none is given.
func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}
