package vch

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// TLS is how a Docker endpoint proves itself, and who may use it.
type TLS string

// The three modes of vic-machine: --no-tls, --no-tlsverify, and its default.
const (
	TLSNone   TLS = "none"   // plain HTTP on 2375: whoever reaches it is root
	TLSServer TLS = "server" // encrypted on 2376, with no check of the client
	TLSVerify TLS = "verify" // both sides prove themselves
)

// Certificates of one VCH, all PEM. The server's key goes to the appliance and
// is not stored.
type Certificates struct {
	Mode                  TLS
	CA, CAKey             []byte // with TLSVerify
	ServerCert, ServerKey []byte // not with TLSNone
	ClientCert, ClientKey []byte // with TLSVerify
	NotAfter              time.Time
}

// CertRequest says what certificates to make.
type CertRequest struct {
	Mode         TLS
	Name         string     // the server's: DNS name or address; required with TLSVerify
	Addr         netip.Addr // another name of it; zero is none
	Organization []string   // default: the VCH's name
	KeyBits      int        // RSA; 0 is 2048
	Now          time.Time

	key *rsa.PrivateKey // the server's, where it is not to be made
}

// Size of the keys and ages of a certificate as vic-machine chooses them. The day before allows for
// clocks that are behind.
const (
	defaultKeyBits = 2048
	certBackdate   = 24 * time.Hour
	certYears      = 1
)

// NewCertificates makes what the mode needs. It contacts nobody.
func NewCertificates(r CertRequest) (*Certificates, error) {
	c := &Certificates{Mode: r.Mode}
	if r.Mode == TLSNone {
		return c, nil
	}
	r.KeyBits = cmp.Or(r.KeyBits, defaultKeyBits)
	if r.Mode == TLSVerify && r.Name == "" {
		return nil, errors.New("client authentication needs a name or an address for the server's certificate that is known before it boots")
	}
	c.NotAfter = r.Now.AddDate(certYears, 0, 0).UTC().Truncate(time.Second)
	template := func(name string, use x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{
			Subject:               pkix.Name{Organization: r.Organization, CommonName: name},
			NotBefore:             r.Now.Add(-certBackdate).UTC(),
			NotAfter:              c.NotAfter,
			KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
			ExtKeyUsage:           []x509.ExtKeyUsage{use},
			BasicConstraintsValid: true,
		}
	}
	var ca *x509.Certificate
	var caKey *rsa.PrivateKey
	if r.Mode == TLSVerify {
		ca = template("", x509.ExtKeyUsageAny)
		ca.ExtKeyUsage = nil
		ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		ca.Subject.Organization = append(append([]string{}, r.Organization...), r.Name)
		var err error
		if c.CA, c.CAKey, caKey, err = sign(ca, nil, nil, nil, r.KeyBits); err != nil {
			return nil, err
		}
		client := template("", x509.ExtKeyUsageClientAuth)
		if c.ClientCert, c.ClientKey, _, err = sign(client, nil, ca, caKey, r.KeyBits); err != nil {
			return nil, err
		}
	}
	server := template(r.Name, x509.ExtKeyUsageServerAuth)
	if ip := net.ParseIP(r.Name); ip != nil {
		server.IPAddresses = []net.IP{ip}
	} else if r.Name != "" {
		server.DNSNames = []string{r.Name}
	}
	if r.Addr.IsValid() && r.Addr.String() != r.Name {
		server.IPAddresses = append(server.IPAddresses, r.Addr.AsSlice())
	}
	var err error
	c.ServerCert, c.ServerKey, _, err = sign(server, r.key, ca, caKey, r.KeyBits)
	return c, err
}

// newKey makes a key. It is what takes longest of a certificate, and tests that
// are about something else do it once.
var newKey = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }

// sign makes a key pair, unless it is given one, and has it signed by parent, or
// by itself.
func sign(t *x509.Certificate, own *rsa.PrivateKey, parent *x509.Certificate, parentKey *rsa.PrivateKey, bits int) (cert, key []byte, private *rsa.PrivateKey, err error) {
	fail := func(err error) ([]byte, []byte, *rsa.PrivateKey, error) {
		return nil, nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	if private = own; own == nil {
		if private, err = newKey(bits); err != nil {
			return fail(err)
		}
	}
	t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return fail(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return fail(err)
	}
	id := sha1.Sum(public)
	t.SubjectKeyId = id[:]
	if parent == nil {
		parent, parentKey = t, private
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &private.PublicKey, parentKey)
	if err != nil {
		return fail(err)
	}
	if t.Raw, err = der, nil; t == parent {
		signed, err := x509.ParseCertificate(der)
		if err != nil {
			return fail(err)
		}
		*t = *signed
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
	return cert, key, private, nil
}

// The files of a VCH in its folder, named as docker looks for them. Beside them
// lies NAME.env.
const (
	fileCA         = "ca.pem"
	fileCAKey      = "ca-key.pem"
	fileServer     = "server-cert.pem"
	fileClient     = "cert.pem"
	fileClientKey  = "key.pem"
	modeKey        = 0o600
	modeCert       = 0o644
	modeCertFolder = 0o700
)

// Store writes the certificates into dir in place of what an earlier VCH of
// that name left there. The server's key is not among them.
func (c *Certificates) Store(dir string) error {
	if err := RemoveStored(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, modeCertFolder); err != nil {
		return fmt.Errorf("store the certificates: %w", err)
	}
	if err := os.Chmod(dir, modeCertFolder); err != nil {
		return fmt.Errorf("store the certificates: %w", err)
	}
	ca := c.CA
	if len(ca) == 0 {
		ca = c.ServerCert // signed by itself; docker wants the file, verified or not
	}
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{
		{fileCA, ca, modeCert}, {fileCAKey, c.CAKey, modeKey}, {fileServer, c.ServerCert, modeCert},
		{fileClient, c.ClientCert, modeCert}, {fileClientKey, c.ClientKey, modeKey},
	} {
		if len(f.text) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, f.name), f.text, f.mode); err != nil {
			return fmt.Errorf("store the certificates: %w", err)
		}
	}
	return nil
}

// RemoveStored removes the files of one VCH, by their names; what else lies in
// the folder stays, and then the folder does.
func RemoveStored(dir string) error {
	names := []string{fileCA, fileCAKey, fileServer, fileClient, fileClientKey, filepath.Base(dir) + ".env"}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove old certificates: %w", err)
		}
	}
	os.Remove(dir) // fails where the user keeps something of their own in it
	return nil
}

// ClientTLS returns how a client talks to a Docker endpoint that shows the
// certificate server (PEM), and no other. The client's own certificate comes
// from dir, where there is one.
func ClientTLS(dir string, server []byte) (*tls.Config, error) {
	c := &Certificates{ServerCert: server}
	var err error
	if c.ClientCert, err = os.ReadFile(filepath.Join(dir, fileClient)); err == nil {
		c.ClientKey, err = os.ReadFile(filepath.Join(dir, fileClientKey))
	}
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read the client's certificate: %w", err)
	}
	return c.clientTLS()
}

// clientTLS admits the one server certificate that was made for this VCH:
// that is more than any authority could say of it.
func (c *Certificates) clientTLS() (*tls.Config, error) {
	if len(c.ServerCert) == 0 {
		return nil, nil
	}
	block, _ := pem.Decode(c.ServerCert)
	if block == nil {
		return nil, errors.New("the VCH's certificate is not PEM")
	}
	t := &tls.Config{
		InsecureSkipVerify: true, // the comparison below is the check
		VerifyConnection: func(s tls.ConnectionState) error {
			if string(s.PeerCertificates[0].Raw) != string(block.Bytes) {
				return errors.New("the Docker endpoint shows another certificate than this VCH's")
			}
			return nil
		},
	}
	if len(c.ClientCert) > 0 {
		pair, err := tls.X509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
