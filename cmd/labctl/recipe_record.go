package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

func (a *app) recipeRecordCommand() *cobra.Command {
	var given []string
	c := &cobra.Command{
		Use: "record FILE", Short: "Press keys on a simulated console, get a recipe",
		Long: `Record shows the simulated console of labctl dcui, and at the end writes what was
done there as a recipe: what was selected, set and confirmed, not how often DOWN
was pressed, so that it is right on hosts whose menus differ. What was typed into
a password field is never written; there the recipe asks for a secret.

A FILE that exists is replaced with --yes only.`,
		Example: "  labctl recipe record ./enable-ssh.yaml --fact esxi=7.0",
		Args:    argsBetween(1, 1, "a file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			facts, err := a.consoleFacts(cmd, given)
			if err != nil {
				return err
			}
			return a.record(cmd.Context(), args[0], facts)
		},
	}
	a.factFlags(c, &given)
	c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return c
}

type recipeRecorded struct {
	Version int          `json:"version"`
	Recipe  string       `json:"recipe"`
	File    string       `json:"file"`
	Steps   int          `json:"steps"`
	Verdict recipes.Kind `json:"verdict"`
}

func (a *app) record(ctx context.Context, file string, facts map[string]string) error {
	if _, err := os.Stat(file); err == nil && !a.yes {
		return hintf(usagef("%s exists", file), "--yes replaces it")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usagef("%w", err)
	}
	// To be told afterwards that it cannot be written would be too late.
	if info, err := os.Stat(filepath.Dir(file)); err != nil {
		return usagef("%w", err)
	} else if !info.IsDir() {
		return usagef("%s is no folder", filepath.Dir(file))
	}
	p, err := newPractice(facts, a.get("LABCTL_PASSWORD"))
	if err != nil {
		return usagef("%w", err)
	}
	rec := newRecorder(p.world)
	p.record = rec.key
	p.again = func() { rec = newRecorder(p.world); p.record = rec.key }
	if err := a.play(ctx, p, "labctl recipe record: a simulated host"); err != nil {
		return err
	}
	src, err := rec.recipe(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	if err != nil {
		return err
	}
	// What was written here is judged like any other file.
	r, err := recipes.Parse(file, src)
	if err != nil {
		return a.recipeFault(err)
	}
	program, err := a.compile(r, facts, recipes.Vars{})
	if err != nil {
		return err
	}
	v, err := program.Check(ctx)
	if err != nil {
		return a.recipeFault(err)
	}
	if err := os.WriteFile(file, src, 0o600); err != nil {
		return fmt.Errorf("write the recipe: %w", err)
	}
	a.next("to play it on a simulated host", "recipe", "rehearse", slashed(file))
	return a.result(recipeRecorded{1, r.Name, file, len(r.Steps), v.Verdict}, func(out *page) {
		out.printf("%s: %d steps, %s for what is known of the host\n", file, len(r.Steps), string(v.Verdict))
	})
}

// recorder makes steps of keys.
type recorder struct {
	start  string // screen
	steps  []any  // as they go into YAML
	raw    []string
	text   strings.Builder // typed at the shell
	opened dcui.World      // the form in front, as it opened
	via    hid.Chord       // the key that opened the login
	end    dcui.World
	worst  dcui.Effect
	secret map[string]bool
}

func newRecorder(w dcui.World) *recorder {
	return &recorder{start: w.At(), opened: w, end: w, secret: map[string]bool{}}
}

// step adds a step: a word, or a name and its value.
func (r *recorder) step(name string, value any) {
	r.flush()
	if value == nil {
		r.steps = append(r.steps, name)
		return
	}
	r.steps = append(r.steps, yaml.MapSlice{{Key: name, Value: value}})
}

// flush turns what had no meaning of its own into steps that spell it out.
func (r *recorder) flush() {
	if r.text.Len() > 0 {
		r.steps = append(r.steps, yaml.MapSlice{{Key: "type", Value: strings.ReplaceAll(r.text.String(), "$", "$$")}})
		r.text.Reset()
	}
	if len(r.raw) > 0 {
		r.steps = append(r.steps, yaml.MapSlice{{Key: "keys", Value: strings.Join(r.raw, " ")}})
		r.raw = nil
	}
}

// key takes one key and where it led.
func (r *recorder) key(k keyRecord) {
	from, to := k.from.At(), k.to.At()
	r.end, r.worst = k.to, max(r.worst, k.to.Effect())
	label, _, _ := k.from.Field()
	changed := from != to || !slices.Equal(k.from.Effects(), k.to.Effects())
	defer func() {
		if from != to {
			r.opened = k.to
		}
	}()
	switch {
	case strings.HasPrefix(from, "shell"):
		r.shellKey(k)
	case from == "welcome" && to == "login":
		r.via = k.chord
	case from == "login" && k.chord == dcui.Enter && (to == "menu" || to == "power"):
		r.login(k)
	case strings.HasPrefix(from, "login"), from == "denied":
		// A login that fails, or was given up, leaves nothing behind.
	case from == "trouble" && k.chord == dcui.Enter && to == "trouble":
		for name, fact := range map[string]string{"SSH": "ssh", "ESXi Shell": "shell"} {
			was, _ := k.from.Now(fact)
			if is, ok := k.to.Now(fact); ok && was != is {
				r.step("toggle", yaml.MapSlice{{Key: name, Value: is}})
			}
		}
	case k.from.Selected() != "" && k.chord == dcui.Enter && from != to:
		r.step("select", k.from.Selected())
	case k.chord == dcui.Esc && from != to && to != "mgmt.confirm":
		r.leave(to)
	case k.chord == dcui.Esc && to == "mgmt.confirm":
		r.step("leave", to)
	case label != "" && (k.chord == dcui.Enter || k.chord == dcui.F11) && changed:
		r.set(k)
		r.step("confirm", k.chord.String())
	case label != "":
		// The form is looked at as a whole when it is confirmed.
	case k.from.Selected() != "":
		// The way of the cursor is found anew by select.
	case !changed && k.from == k.to:
	case k.chord == dcui.F11, k.chord == dcui.F2, k.chord == dcui.Enter, from == "mgmt.confirm":
		r.step("confirm", k.chord.String())
	default:
		r.spell(k)
	}
}

// spell records a key as it is.
func (r *recorder) spell(k keyRecord) {
	if k.secret {
		return
	}
	if k.char > ' ' && k.char != '"' && k.char != '$' {
		r.raw = append(r.raw, `"`+string(k.char)+`"`)
		return
	}
	r.raw = append(r.raw, k.chord.String())
}

func (r *recorder) login(k keyRecord) {
	r.secret["password"] = true
	via := "F2"
	if r.via == dcui.F12 {
		via = "F12"
	}
	user := formValues(k.from)["Login Name"].value
	switch {
	case user != "" && user != "root":
		r.step("login", yaml.MapSlice{{Key: "user", Value: user}, {Key: "key", Value: via}})
	case via == "F12":
		r.step("login", via)
	default:
		r.step("login", nil)
	}
}

// leave joins ways out: only the last matters.
func (r *recorder) leave(to string) {
	r.flush()
	if n := len(r.steps); n > 0 {
		last, isMap := r.steps[n-1].(yaml.MapSlice)
		if isMap && last[0].Key == "leave" && last[0].Value != "mgmt.confirm" {
			r.steps = r.steps[:n-1]
		}
	}
	if to == "welcome" {
		r.step("leave", nil)
		return
	}
	r.step("leave", to)
}

// shellKey records the shell console: a login, or what was typed.
func (r *recorder) shellKey(k keyRecord) {
	from, to := k.from.At(), k.to.At()
	switch {
	case from == "shell.login" || from == "shell.password":
		if to == "shell" {
			r.secret["password"] = true
			r.step("login", nil)
		} else if to == "menu" || to == "welcome" || !strings.HasPrefix(to, "shell") {
			r.spell(k)
		}
	case k.char != 0 && !k.secret:
		if len(r.raw) > 0 {
			r.flush()
		}
		r.text.WriteRune(k.char)
	case k.chord == (hid.Chord{Key: hid.KeyBackspace}) && r.text.Len() > 0:
		s := []rune(r.text.String())
		r.text.Reset()
		r.text.WriteString(string(s[:len(s)-1]))
	default:
		if r.text.Len() > 0 {
			r.flush()
		}
		r.spell(k)
	}
}

// fieldValue is what stands in a field; marks says that it is a check box or a
// radio button.
type fieldValue struct {
	value        string
	hides, marks bool
}

// formValues reads a form by going round its fields with TAB, which changes
// none.
func formValues(w dcui.World) map[string]fieldValue {
	out := map[string]fieldValue{}
	for range 64 { // no form is longer
		label, hides, text := w.Field()
		name := fieldName(label)
		if _, seen := out[name]; seen || name == "" {
			break
		}
		out[name] = fieldValue{w.Value(), hides, !text}
		w = w.Press(dcui.Tab)
	}
	return out
}

// fieldName is a label as recipes name it: without its colon and without the
// columns that follow a device's name.
func fieldName(label string) string {
	name, _, _ := strings.Cut(label, "  ")
	return strings.TrimSuffix(name, ":")
}

// set records the fields that the form got other values in.
func (r *recorder) set(k keyRecord) {
	before, after := formValues(r.opened), formValues(k.from)
	var fields yaml.MapSlice
	add := func(pick func(fieldValue) bool) {
		for _, name := range formOrder(k.from) {
			v := after[name]
			old, was := before[name]
			switch {
			case !pick(v), was && old.value == v.value && !v.hides, v.hides && v.value == "":
			case v.hides:
				secret := "new_password"
				if strings.HasPrefix(name, "Old") {
					secret = "password"
				}
				r.secret[secret] = true
				fields = append(fields, yaml.MapItem{Key: name, Value: "${" + secret + "}"})
			case v.marks && v.value != "":
				fields = append(fields, yaml.MapItem{Key: name, Value: "on"})
			case v.marks:
				if k.from.At() == "mgmt.adapters" || k.from.At() == "lockdown" || k.from.At() == "restore.vds" || name == "Enable IPv6 (restart required)" {
					fields = append(fields, yaml.MapItem{Key: name, Value: "off"})
				}
			default:
				fields = append(fields, yaml.MapItem{Key: name, Value: strings.ReplaceAll(v.value, "$", "$$")})
			}
		}
	}
	// A radio button opens fields to the cursor, so marks come first.
	add(func(v fieldValue) bool { return v.marks })
	add(func(v fieldValue) bool { return !v.marks })
	if len(fields) > 0 {
		r.step("set", fields)
	}
}

// formOrder lists the fields from the first one down.
func formOrder(w dcui.World) []string {
	for range 64 {
		w = w.Press(dcui.Up)
	}
	var names []string
	for range 64 {
		label, _, _ := w.Field()
		name := fieldName(label)
		if slices.Contains(names, name) || name == "" {
			break
		}
		names = append(names, name)
		w = w.Press(dcui.Tab)
	}
	return names
}

// recipe writes what was recorded.
func (r *recorder) recipe(name string) ([]byte, error) {
	r.flush()
	if len(r.steps) == 0 {
		return nil, exitWith(exitFailed, errors.New("nothing was recorded: no key led anywhere"))
	}
	steps := r.steps
	if r.start == "welcome" {
		// The recording began at the welcome screen; a host may stand anywhere.
		steps = append([]any{"anchor"}, steps...)
	}
	risk := recipes.Disruptive
	switch {
	case r.worst.Destructive():
		risk = recipes.Destructive
	case r.worst <= dcui.PingTest:
		risk = recipes.ReadOnly
	case r.worst <= dcui.SSHOn && r.worst >= dcui.ShellOff:
		risk = recipes.Toggle
	}
	doc := yaml.MapSlice{
		{Key: "recipe", Value: recipeName(name)},
		{Key: "summary", Value: "Recorded on the simulated console; done to the host: " + r.worst.String()},
		{Key: "risk", Value: string(risk)},
	}
	switch r.worst {
	case dcui.StandardRestored, dcui.DistributedRestored:
		doc = append(doc, yaml.MapItem{Key: "requires", Value: yaml.MapSlice{{Key: "management", Value: "distributed"}}})
	}
	var secrets yaml.MapSlice
	for _, s := range []struct{ name, summary string }{{"password", "password of root"}, {"new_password", "the new password of root"}} {
		if r.secret[s.name] {
			secrets = append(secrets, yaml.MapItem{Key: s.name, Value: s.summary})
		}
	}
	if len(secrets) > 0 {
		doc = append(doc, yaml.MapItem{Key: "secrets", Value: secrets})
	}
	doc = append(doc, yaml.MapItem{Key: "steps", Value: steps})
	if e := r.end.Effects(); len(e) > 0 {
		doc = append(doc, yaml.MapItem{Key: "verify", Value: []any{yaml.MapSlice{{Key: "effect", Value: e[0].String()}}}})
	}
	out, err := yaml.MarshalWithOptions(doc, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write the recipe: %w", err)
	}
	return out, nil
}

// recipeName turns a file's name into one that a recipe can have.
func recipeName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '-'
	}, s)
	if s = strings.Trim(s, "-"); s == "" {
		return "recorded"
	}
	return s
}
