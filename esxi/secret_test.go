package esxi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// A Secret shows as ••••, however it is printed, logged or encoded, and whatever
// it is part of.
func TestSecretNeverPrints(t *testing.T) {
	const value = "hunter2"
	s := NewSecret(value)
	if s.Reveal() != value || s.IsZero() || !NewSecret("").IsZero() || !(Secret{}).IsZero() || (Secret{}).Reveal() != "" {
		t.Fatal("a Secret does not keep its value")
	}
	type inside struct {
		Public Secret `json:"public" yaml:"public"`
		hidden Secret // fmt reads unexported fields past their methods
		ptr    *Secret
	}
	whole := inside{s, s, &s}
	said := map[string]string{"String": s.String()}
	for _, verb := range "vsqxXdpbtcUeTow" {
		for _, flags := range []string{"", "+", "#", "# ", "020", "-20.3"} {
			format := "%" + flags + string(verb)
			for name, v := range map[string]any{
				"Secret": s, "pointer": &s, "struct": whole, "pointer to struct": &whole, "slice": []Secret{s}, "map": map[string]Secret{"k": s}, "key": map[Secret]int{s: 1}, "any": []any{s},
			} {
				said[format+" "+name] = fmt.Sprintf(format, v)
			}
		}
	}
	said["Errorf"] = fmt.Errorf("login with %v: %w", s, fmt.Errorf("%s", s)).Error()
	said["Sprint"] = fmt.Sprint(s, &s, whole)
	for name, v := range map[string]any{"Secret": s, "pointer": &s, "struct": whole, "key": map[Secret]int{s: 1}} {
		b, err := json.Marshal(v)
		said["JSON "+name] = fmt.Sprint(string(b), err)
		b, err = yaml.Marshal(v)
		said["YAML "+name] = fmt.Sprint(string(b), err)
		var text, object bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("login", "password", v)
		slog.New(slog.NewJSONHandler(&object, nil)).Info("login", "password", v)
		said["slog text "+name], said["slog JSON "+name] = text.String(), object.String()
	}
	hex := fmt.Sprintf("%x", value)
	for how, got := range said {
		if strings.Contains(got, value) || strings.Contains(strings.ToLower(got), hex) || strings.Contains(got, "104 117 110") {
			t.Errorf("%s shows the value: %s", how, got)
		}
	}
	for _, how := range []string{"String", "%v Secret", "%#v Secret", "%x Secret", "%d pointer"} {
		if said[how] != masked {
			t.Errorf("%s: %q, want %q", how, said[how], masked)
		}
	}
	for _, how := range []string{"JSON Secret", "JSON struct", "YAML Secret", "YAML struct", "slog text Secret", "slog JSON Secret"} {
		if !strings.Contains(said[how], masked) {
			t.Errorf("%s does not show that there is one: %s", how, said[how])
		}
	}
}
