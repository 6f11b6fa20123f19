package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/labctl/labctl/configs"
)

func (a *app) configCommand() *cobra.Command {
	return a.noun("config", "The configuration: write, show, check",
		`Config is about labctl.yaml: the hosts, how their passwords are found, and the
certificates they are known by. It lies in $XDG_CONFIG_HOME/labctl, or where
--config or LABCTL_CONFIG says. Flags come before environment variables, those
before the file.`,
		"  labctl config show --origin",
		a.configInitCommand(), a.configShowCommand(), a.configCheckCommand(), a.configSchemaCommand())
}

type configCheckResult struct {
	Version int               `json:"version"`
	File    string            `json:"file"`
	OK      bool              `json:"ok"`
	Hosts   int               `json:"hosts"`
	Errors  []configCheckItem `json:"errors"`
}

type configCheckItem struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Find what is wrong with the config file",
		Long: `Check reads the config file strictly and lists every error with its line. It
also looks whether the files that the config names are there. It asks no host.
Exit code 0 is a good file, 2 one with errors.`,
		Example: "  labctl config check --config ./labctl.yaml",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			path, _, err := configPath(a.flags, a.env)
			if err != nil {
				return err
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return hintf(usagef("there is no config at %s", path), "to write one: %s", a.line("config", "init"))
			}
			r := configCheckResult{Version: 1, File: path, Errors: []configCheckItem{}}
			s, err := a.settings()
			var bad fileErrors
			if errors.As(err, &bad) && a.json() {
				for _, e := range bad.all {
					r.Errors = append(r.Errors, configCheckItem{e.line, e.col, e.msg})
				}
				return errors.Join(err, a.result(r, nil))
			}
			if err != nil {
				return err
			}
			a.lookAround(s)
			r.OK, r.Hosts = true, len(s.Hosts)
			a.next("to look at everything that it names", "doctor")
			return a.result(r, func(p *page) {
				plural := "s"
				if r.Hosts == 1 {
					plural = ""
				}
				p.printf("%s is fine: %d host%s\n", path, r.Hosts, plural)
			})
		},
	}
}

// lookAround warns of files that the config names and that are not there, or
// are there for everybody.
func (a *app) lookAround(s *settings) {
	files := []string{s.VCenter.PasswordFile, s.VCH.Bundle}
	for _, h := range s.Hosts {
		files = append(files, h.PasswordFile)
	}
	for i, path := range files {
		if path == "" {
			continue
		}
		info, err := os.Stat(a.expandHome(path))
		switch {
		case err != nil:
			a.warn("%s", err)
		case i != 1 && info.Mode().Perm()&0o077 != 0:
			a.warn("others may read %s (mode %04o): chmod 600 keeps it to you", path, info.Mode().Perm())
		}
	}
}

type configShowResult struct {
	Version int               `json:"version"`
	File    string            `json:"file"` // "" where none was read
	Config  Config            `json:"config"`
	Values  []configShowValue `json:"values"`
}

type configShowValue struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

func (a *app) configShowCommand() *cobra.Command {
	var origin bool
	c := &cobra.Command{
		Use: "show", Short: "Show the configuration in effect",
		Long: `Show prints the configuration after flags, environment variables, file and
defaults were laid over each other. With --origin it names for each value which
of them it came from. Passwords are no part of it.`,
		Example: "  labctl config show --origin",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			s.URL, s.VCenter.URL = maskURL(s.URL), maskURL(s.VCenter.URL)
			r := configShowResult{Version: 1, Config: s.Config, Values: s.values()}
			if r.Config.Version == 0 {
				r.Config.Version = 1
			}
			if s.file != nil {
				r.File = s.file.path
			} else {
				path, _, _ := configPath(a.flags, a.env)
				a.say("there is no config file at %s", path)
				a.next("to write one", "config", "init")
			}
			text, err := yaml.MarshalWithOptions(r.Config, yaml.IndentSequence(true))
			if err != nil {
				return fmt.Errorf("write the config as YAML: %w", err)
			}
			return a.result(r, func(p *page) {
				if !origin {
					p.Write(text)
					return
				}
				t := table{header: []string{"KEY", "VALUE", "ORIGIN"}}
				for _, v := range r.Values {
					t.row(plain, v.Key, fmt.Sprint(v.Value), v.Origin)
				}
				t.write(p)
			})
		},
	}
	c.Flags().BoolVar(&origin, "origin", false, "tell where each value comes from")
	return c
}

// maskURL hides a password that should not have been in a URL.
func maskURL(s string) string {
	at := strings.LastIndex(s, "@")
	start := 0
	if i := strings.Index(s, "://"); i >= 0 {
		start = i + len("://")
	}
	if at < start {
		return s
	}
	user, _, has := strings.Cut(s[start:at], ":")
	if !has {
		return s
	}
	return s[:start] + user + ":••••" + s[at:]
}

// values lists what is set, in the order of the structs, hosts by name.
func (s *settings) values() []configShowValue {
	var out []configShowValue
	var walk func(v reflect.Value, shown, name string)
	add := func(shown, name string, value any) {
		out = append(out, configShowValue{shown, value, s.origins[name]})
	}
	walk = func(v reflect.Value, shown, name string) {
		switch v.Kind() {
		case reflect.Struct:
			for _, f := range reflect.VisibleFields(v.Type()) {
				tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if tag == "" {
					continue
				}
				dot := "."
				if name == "" {
					dot = ""
				}
				walk(v.FieldByIndex(f.Index), shown+dot+tag, name+dot+tag)
			}
		case reflect.Slice:
			if hosts, ok := v.Interface().([]HostConf); ok {
				for i, h := range hosts {
					walk(v.Index(i), shown+"["+h.Name+"]", fmt.Sprintf("%s[%d]", name, i))
				}
			} else if v.Len() > 0 {
				add(shown, name, v.Interface())
			}
		case reflect.Map:
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, k := range keys {
				add(shown+"."+k.String(), name+"."+k.String(), v.MapIndex(k).String())
			}
		default:
			if s.origins[name] == "" {
				return
			}
			if text, ok := v.Interface().(fmt.Stringer); ok {
				add(shown, name, text.String())
			} else {
				add(shown, name, v.Interface())
			}
		}
	}
	walk(reflect.ValueOf(*s), "", "")
	return out
}

func (a *app) configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema [COMMAND...]", Short: "Print the JSON schema of the config file, or of a command's output",
		Long: `Schema prints the JSON schema of labctl.yaml. Editors that speak the YAML
language server complete and check the file with it. labctl recipe schema is for
recipes.

With the words of a command it prints the schema of what that command writes with
-o json: one object, or for long jobs a line for each event and the result last.`,
		Example: "  labctl config schema > labctl.schema.json\n  labctl config schema net plan",
		Args:    argsBetween(0, -1, ""),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return completeOutputs(args), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := schemaOf(args)
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.stdout, text)
			return err
		},
	}
}

// schemaOf is the schema of a command's output, without words the config's.
func schemaOf(words []string) (string, error) {
	if len(words) == 0 {
		return configs.Schema, nil
	}
	if words[0] == "labctl" {
		words = words[1:]
	}
	b, err := configs.Output.ReadFile("output/" + strings.Join(words, "-") + ".schema.json")
	if err == nil {
		return string(b), nil
	}
	return "", hintf(usagef("labctl %s has no output with a schema", strings.Join(words, " ")), "those that have one: %s", strings.Join(outputNames(), ", "))
}

// outputNames are the commands that write JSON.
func outputNames() (names []string) {
	files, _ := configs.Output.ReadDir("output") // embedded
	for _, f := range files {
		names = append(names, strings.ReplaceAll(strings.TrimSuffix(f.Name(), ".schema.json"), "-", " "))
	}
	return names
}

// completeOutputs offers the next word of a command that writes JSON.
func completeOutputs(args []string) (words []string) {
	for _, n := range outputNames() {
		have := strings.Fields(n)
		if len(have) > len(args) && slices.Equal(have[:len(args)], args) && !slices.Contains(words, have[len(args)]) {
			words = append(words, have[len(args)])
		}
	}
	return words
}
