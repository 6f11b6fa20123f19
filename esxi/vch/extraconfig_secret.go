package vch

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
)

// secretSuffix ends the keys of encrypted values.
const secretSuffix = "@secret"

// ovfEnv holds the key of a machine's secrets. vSphere leaves this one out of
// what its API shows, while the guest and the .vmx file have it.
const ovfEnv = "guestinfo.ovfEnv"

const nonceSize = 24 // bytes, before the box; XSalsa20's

// SecretKey opens and seals the secrets of one VCH (NaCl secretbox). It is made
// anew whenever all keys are written.
type SecretKey struct{ key [32]byte }

// NewSecretKey returns a random key.
func NewSecretKey() *SecretKey {
	k := new(SecretKey)
	rand.Read(k.key[:]) // never fails: crypto/rand ends the program instead
	return k
}

// ParseSecretKey reads a key as guestinfo.ovfEnv has it. The error does not
// repeat the text.
func ParseSecretKey(text string) (*SecretKey, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != 32 {
		return nil, errors.New(ovfEnv + " is not 32 bytes of base64")
	}
	return &SecretKey{[32]byte(b)}, nil
}

// SecretKeyFromVMX finds the key in a .vmx file.
func SecretKeyFromVMX(vmx string) (*SecretKey, error) {
	for line := range strings.Lines(vmx) {
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.EqualFold(strings.TrimSpace(name), ovfEnv) {
			return ParseSecretKey(strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return nil, errors.New("the .vmx file holds no " + ovfEnv)
}

// text returns the key as guestinfo.ovfEnv has it.
func (k *SecretKey) text() string { return base64.StdEncoding.EncodeToString(k.key[:]) }

// String hides the key.
func (k *SecretKey) String() string { return "••••" }

// GoString hides the key from %#v.
func (k *SecretKey) GoString() string { return k.String() }

func (k *SecretKey) seal(text string) (string, error) {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return k.sealWith(nonce, text), nil
}

func (k *SecretKey) sealWith(nonce [nonceSize]byte, text string) string {
	return base64.StdEncoding.EncodeToString(secretbox.Seal(nonce[:], []byte(text), &nonce, &k.key))
}

func (k *SecretKey) open(sealed string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(b) < nonceSize {
		return "", fmt.Errorf("not a sealed secret")
	}
	text, ok := secretbox.Open(nil, b[nonceSize:], (*[nonceSize]byte)(b), &k.key)
	if !ok {
		return "", fmt.Errorf("sealed with another key, or damaged")
	}
	return string(text), nil
}
