package esxi

import (
	"fmt"
	"io"
	"log/slog"
)

// masked is what every Secret prints as, whatever its length: the number of
// characters of a password is part of the password.
const masked = "••••"

// Secret is a password on its way from the user to one login call. However it
// is printed, logged or encoded it shows as ••••; only Reveal returns it.
type Secret struct {
	// Behind a pointer, because fmt does not call methods of what lies in an
	// unexported field, nor with %p or a verb it does not know: then it prints
	// the fields, and of this one the address.
	value *string
}

// NewSecret wraps a password.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal returns the password itself.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports that there is no password, or an empty one.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

func (s Secret) String() string { return masked }

// Format implements fmt.Formatter so that no verb, %#v and %x included,
// reaches the value.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, masked) }

// MarshalText keeps the value out of JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// LogValue keeps the value out of slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }
