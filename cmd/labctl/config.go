package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// settings is what a command works with: the config file, with environment and
// flags over it, and the values that only those two can give.
type settings struct {
	Config
	Output     string        `json:"output"`
	Color      string        `json:"color"`
	Timeout    time.Duration `json:"timeout"`
	URL        string        `json:"url"`
	Thumbprint string        `json:"thumbprint"`
	Insecure   bool          `json:"insecure"`

	file    *configFile       // nil where there is none
	origins map[string]string // key → where its value came from
	where   string            // the flags that said where, as words of a command line
}

// key is one value that more than the file can give. Everything else of the
// config comes from the file alone.
type key struct {
	name     string   // as in the file; a name without a dot is in no file
	flag     string   // global flag
	env      []string // the first variable that is set and not empty wins
	fallback string   // default; "" is none
}

// keys is the one table of flags, variables and defaults: the merge and
// config show --origin both read it.
var keys = []key{
	{"output", "output", []string{"LABCTL_OUTPUT"}, "text"},
	{"color", "color", []string{"LABCTL_COLOR"}, "auto"},
	{"timeout", "timeout", []string{"LABCTL_TIMEOUT"}, "0s"},
	{"url", "url", []string{"LABCTL_URL", "GOVC_URL"}, ""},
	{"thumbprint", "thumbprint", []string{"LABCTL_THUMBPRINT"}, ""},
	{"insecure", "insecure", nil, "false"},
	{"vcenter.url", "vcenter", []string{"LABCTL_VCENTER"}, ""},
}

// configPath returns the file to read and whether the user named it.
func configPath(flags *pflag.FlagSet, e *env) (path string, named bool, err error) {
	if f := flags.Lookup("config"); f != nil && f.Changed {
		if f.Value.String() == "" {
			return "", false, usagef("--config names no file")
		}
		return f.Value.String(), true, nil
	}
	if path := e.get("LABCTL_CONFIG"); path != "" {
		return path, true, nil
	}
	base, err := e.baseDir("XDG_CONFIG_HOME", ".config")
	return filepath.Join(base, "labctl", "labctl.yaml"), false, err
}

// loadSettings reads the config file and merges flag > environment > file >
// default. Only a file that was named has to exist.
func loadSettings(flags *pflag.FlagSet, e *env) (*settings, error) {
	path, named, err := configPath(flags, e)
	if err != nil {
		if named {
			return nil, err
		}
		return mergeSettings(flags, e.lookup, nil) // no home, so no file
	}
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return mergeSettings(flags, e.lookup, nil)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hintf(usagef("read the config: %w", err), "to write it: labctl config init%s", firstOf(whereFlags(flags, nil), " --config "+shellWord(path)))
	}
	if err != nil {
		return nil, usagef("read the config: %w", err)
	}
	file, err := parseConfig(path, src)
	if err != nil {
		return nil, err
	}
	return mergeSettings(flags, e.lookup, file)
}

// mergeSettings lets viper lay flag over environment over file over default.
// Viper gets a file that was decoded strictly before: by itself it lower-cases
// keys and drops misspelled ones without a word. Environment variables reach it
// as one more layer and not through BindEnv, which reads the process.
func mergeSettings(flags *pflag.FlagSet, lookup func(string) (string, bool), file *configFile) (*settings, error) {
	v := viper.New()
	s := &settings{file: file, origins: map[string]string{}, where: whereFlags(flags, nil)}
	if file != nil {
		for name, p := range file.at {
			s.origins[name] = fmt.Sprintf("file %s:%d", file.path, p.line)
		}
	}

	above := map[string]any{} // environment
	vcenter := ""             // the vCenter that a variable or a flag names
	for _, k := range keys {
		if k.fallback != "" {
			v.SetDefault(k.name, k.fallback)
			s.origins[k.name] = "default"
		}
		value := ""
		for _, name := range k.env {
			if value, _ = lookup(name); value != "" {
				set(above, k.name, value)
				s.origins[k.name] = "env " + name
				break
			}
		}
		if f := flags.Lookup(k.flag); f != nil && f.Changed {
			if err := v.BindPFlag(k.name, f); err != nil {
				return nil, fmt.Errorf("bind --%s: %w", k.flag, err)
			}
			value = f.Value.String()
			s.origins[k.name] = "flag --" + k.flag
		}
		switch k.name {
		case "vcenter.url":
			vcenter = value
		case "timeout": // viper's error would not say where it comes from
			if _, err := time.ParseDuration(value); value != "" && err != nil {
				return nil, usagef("%s: %q is no duration as in 30s or 2m", s.origins[k.name], value)
			}
		}
	}
	if file != nil {
		below, err := file.layer()
		if err != nil {
			return nil, err
		}
		// Another vCenter than the file's must not get the file's password.
		if vcenter != "" && !sameEndpoint(vcenter, file.VCenter.URL) {
			delete(below, "vcenter")
			maps.DeleteFunc(s.origins, func(k, _ string) bool { return strings.HasPrefix(k, "vcenter.") && k != "vcenter.url" })
		}
		if err := v.MergeConfigMap(below); err != nil {
			return nil, fmt.Errorf("merge the config: %w", err)
		}
	}
	if err := v.MergeConfigMap(above); err != nil {
		return nil, fmt.Errorf("merge the environment: %w", err)
	}
	err := v.UnmarshalExact(s, func(c *mapstructure.DecoderConfig) { c.TagName, c.Squash = "json", true })
	if err != nil {
		return nil, usagef("%s", err)
	}
	return s, s.check()
}

// layer returns the file as viper takes it. Hosts stay as they are, a list of
// structs, which viper passes on untouched, keys of maps in it included.
func (f *configFile) layer() (map[string]any, error) {
	flat := f.Config
	flat.Hosts = nil
	b, err := json.Marshal(flat)
	if err != nil {
		return nil, fmt.Errorf("encode the config: %w", err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("encode the config: %w", err)
	}
	m["hosts"] = f.Hosts
	return m, nil
}

// set puts value at a dotted name.
func set(m map[string]any, name string, value any) {
	for {
		head, rest, nested := strings.Cut(name, ".")
		if !nested {
			m[name] = value
			return
		}
		inner, ok := m[head].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[head] = inner
		}
		m, name = inner, rest
	}
}

// check judges the values that no file holds, as files are judged with their
// positions when they are read.
func (s *settings) check() error {
	switch {
	case !slices.Contains([]string{"text", "json"}, s.Output):
		return usagef("%s: output %q is neither text nor json", s.origins["output"], s.Output)
	case !slices.Contains([]string{"auto", "always", "never"}, s.Color):
		return usagef("%s: colour %q is none of auto, always and never", s.origins["color"], s.Color)
	case s.Timeout < 0:
		return usagef("%s: a time-out of %v has already passed", s.origins["timeout"], s.Timeout)
	case s.Insecure && s.Thumbprint != "":
		return hintf(usagef("--insecure and a thumbprint (%s) exclude each other", s.origins["thumbprint"]),
			"--insecure would accept any certificate, whatever the thumbprint says")
	}
	return nil
}
