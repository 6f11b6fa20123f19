package main

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/hid"
)

// Config is labctl.yaml. The jsonschema tags are its documentation: the schema
// and the error messages come from them.
type Config struct {
	Version int        `json:"version" jsonschema:"version of this format: 1"`
	VCenter Access     `json:"vcenter,omitzero" jsonschema:"the vCenter that manages the hosts, if there is one"`
	Hosts   []HostConf `json:"hosts,omitempty" jsonschema:"the ESXi hosts"`
	VCH     VCHConf    `json:"vch,omitzero" jsonschema:"defaults for Virtual Container Hosts"`
}

// Access is how to reach one vSphere API and who logs in. At most one of the
// three password fields is set; without one the password is asked for.
type Access struct {
	URL             string   `json:"url,omitempty" jsonschema:"address of the API: https://host[:port]"`
	User            string   `json:"user,omitempty" jsonschema:"who logs in, as vSphere spells it"`
	Thumbprint      string   `json:"thumbprint,omitempty" jsonschema:"pinned certificate: SHA-256 or SHA-1, colon hex"`
	PasswordCommand []string `json:"password_command,omitempty" jsonschema:"program and arguments that print the password on one line; no shell"`
	PasswordEnv     string   `json:"password_env,omitempty" jsonschema:"environment variable that holds the password"`
	PasswordFile    string   `json:"password_file,omitempty" jsonschema:"file that holds the password, relative to this one"`
}

// HostConf is one ESXi host.
type HostConf struct {
	Name     string `json:"name" jsonschema:"what commands call the host"`
	Access   `yaml:",inline"`
	Keyboard string            `json:"keyboard,omitempty" jsonschema:"how keys reach this host: /dev/hidg0, ssh://[user@]pi, vm://HOST/VM, sim:"`
	Layout   string            `json:"layout,omitempty" jsonschema:"keyboard layout of the ESXi console: us, de, ch-fr, …"`
	Network  NetworkConf       `json:"network,omitzero" jsonschema:"names of the management network on both kinds of switch"`
	Facts    map[string]string `json:"facts,omitempty" jsonschema:"what is known of the host's console, as in recipe --fact"`
	Pace     PaceConf          `json:"pace,omitzero" jsonschema:"how patiently to type on this host"`
}

// PaceConf holds durations such as 30ms. What is left out is the recipe's, else
// labctl's default.
type PaceConf struct {
	Hold string `json:"hold,omitempty" jsonschema:"a key stays down, as in 30ms"`
	Gap  string `json:"gap,omitempty" jsonschema:"between two keys, as in 50ms"`
	Lead string `json:"lead,omitempty" jsonschema:"a modifier is down before its key, and after it, as in 10ms"`
}

// pace reads the durations; what is left out, or is none, is 0. The file has been
// judged before.
func (c PaceConf) pace() hid.Pace {
	read := func(s string) time.Duration {
		d, _ := time.ParseDuration(s)
		return max(d, 0)
	}
	return hid.Pace{Hold: read(c.Hold), Gap: read(c.Gap), Lead: read(c.Lead)}
}

// NetworkConf names the management network's parts. What is left out is
// learned from the host.
type NetworkConf struct {
	VMK         string     `json:"vmk,omitempty" jsonschema:"management vmkernel adapter, as in vmk0"`
	Uplink      string     `json:"uplink,omitempty" jsonschema:"physical adapter, as in vmnic0"`
	Standard    SwitchConf `json:"standard,omitzero" jsonschema:"the standard vSwitch"`
	Distributed SwitchConf `json:"distributed,omitzero" jsonschema:"the Distributed vSwitch"`
}

// SwitchConf is a virtual switch and the management port group on it.
type SwitchConf struct {
	Switch    string `json:"switch,omitempty" jsonschema:"name of the switch"`
	PortGroup string `json:"portgroup,omitempty" jsonschema:"name of the management port group on it"`
}

// VCHConf holds defaults of the vch commands. Each key is the flag of that name
// with underscores; what is left out has vic-machine's default.
type VCHConf struct {
	Bundle             string   `json:"bundle,omitempty" jsonschema:"folder with vic-machine's files, relative to this file"`
	Datastore          string   `json:"datastore,omitempty" jsonschema:"where the appliance lives"`
	ImageStore         string   `json:"image_store,omitempty" jsonschema:"DATASTORE/PATH for images, where it is not the appliance's folder"`
	VolumeStores       []string `json:"volume_stores,omitempty" jsonschema:"DATASTORE/PATH:LABEL or nfs://HOST/PATH:LABEL"`
	ComputeResource    string   `json:"compute_resource,omitempty" jsonschema:"cluster, host or pool, where there are several"`
	PublicNetwork      string   `json:"public_network,omitempty" jsonschema:"port group of the appliance's public side"`
	ClientNetwork      string   `json:"client_network,omitempty" jsonschema:"port group of the Docker API, where it is not the public one"`
	ManagementNetwork  string   `json:"management_network,omitempty" jsonschema:"port group to vSphere, where it is not the client one"`
	BridgeNetwork      string   `json:"bridge_network,omitempty" jsonschema:"port group between containers; on a host without vCenter it is made"`
	ContainerNetworks  []string `json:"container_networks,omitempty" jsonschema:"PORTGROUP[:ALIAS] that containers can be attached to"`
	DNSServers         []string `json:"dns_servers,omitempty" jsonschema:"addresses of name servers"`
	Target             string   `json:"target,omitempty" jsonschema:"address at which the appliance reaches vSphere"`
	TLS                string   `json:"tls,omitempty" jsonschema:"none, server or verify"`
	Ops                OpsConf  `json:"ops,omitzero" jsonschema:"whom the appliance logs in as"`
	InsecureRegistries []string `json:"insecure_registries,omitempty" jsonschema:"registries without a valid certificate"`
	WhitelistRegistry  []string `json:"whitelist_registries,omitempty" jsonschema:"the only registries to pull from"`
	HTTPProxy          string   `json:"http_proxy,omitempty" jsonschema:"proxy for http"`
	HTTPSProxy         string   `json:"https_proxy,omitempty" jsonschema:"proxy for https"`
	NoProxy            string   `json:"no_proxy,omitempty" jsonschema:"hosts that are reached without a proxy"`
	EndpointMemory     int      `json:"endpoint_memory,omitempty" jsonschema:"memory of the appliance in MB"`
	EndpointCPU        int      `json:"endpoint_cpu,omitempty" jsonschema:"virtual CPUs of the appliance"`
	Memory             int      `json:"memory,omitempty" jsonschema:"limit for all containers together in MB"`
	CPU                int      `json:"cpu,omitempty" jsonschema:"limit for all containers together in MHz"`
}

// OpsConf is an account of the appliance's own. At most one of the three
// password fields is set; without one the password is asked for.
type OpsConf struct {
	User            string   `json:"user,omitempty" jsonschema:"who logs in, as vSphere spells it"`
	PasswordCommand []string `json:"password_command,omitempty" jsonschema:"program and arguments that print the password on one line; no shell"`
	PasswordEnv     string   `json:"password_env,omitempty" jsonschema:"environment variable that holds the password"`
	PasswordFile    string   `json:"password_file,omitempty" jsonschema:"file that holds the password, relative to this one"`
}

// access returns the block in the form that passwords are looked for in.
func (o *OpsConf) access() *Access {
	return &Access{User: o.User, PasswordCommand: o.PasswordCommand, PasswordEnv: o.PasswordEnv, PasswordFile: o.PasswordFile}
}

// configFile is a decoded file with the place of each of its values.
type configFile struct {
	Config
	path string
	at   map[string]place // hosts[0].url → where it stands
}

type place struct{ line, col int } // both from 1

// fileError is one fault of a user's file.
type fileError struct {
	place
	msg string
}

// fileErrors are the faults of one file, in the order of their lines.
type fileErrors struct {
	path  string
	lines []string
	all   []fileError
}

func (e fileErrors) Error() string {
	out := make([]string, len(e.all))
	for i, f := range e.all {
		out[i] = fmt.Sprintf("%s:%d:%d: %s", e.path, f.line, f.col, f.msg)
	}
	return strings.Join(out, "\n")
}

// reportFile prints each error with its line and a caret below the column.
func (a *app) reportFile(e fileErrors) {
	for _, f := range e.all {
		a.say("%s:%d:%d: %s", e.path, f.line, f.col, f.msg)
		if f.line < 1 || f.line > len(e.lines) {
			continue
		}
		// The caret stands under what is shown, so masks before it count.
		raw := []rune(e.lines[f.line-1])
		before := redact(string(raw[:min(max(f.col-1, 0), len(raw))]))
		line, col := []rune(redact(string(raw))), len([]rune(before))
		for i, r := range line {
			if r == '\t' {
				line[i] = '→' // one column wide, and the usual culprit
			}
		}
		col = min(col, len(line))
		if from := max(0, col-100); from > 0 {
			line, col = line[from:], col-from
		}
		line = line[:min(len(line), 160)]
		gutter := strconv.Itoa(f.line)
		a.stderrLines("", fmt.Sprintf("%5s | %s", gutter, string(line)))
		a.stderrLines("", fmt.Sprintf("%5s | %s%s", "", strings.Repeat(" ", col), a.errStyle(red, "^")))
	}
}

// secretKey matches a key that sounds like a secret, and what is after its
// colon. It is compiled when the first error is shown, as starts are frequent
// and errors are not.
var secretKey = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)([\w-]*(?:pass|pwd|secret|token|key)[\w-]*["']?\s*:\s*)(.+)`)
})

var userinfo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(//[^/\s:@"']*:)[^/\s]*@`) })

// redact masks what may be a secret in a line that is about to be shown.
func redact(line string) string {
	line = userinfo().ReplaceAllString(line, "${1}••••@")
	m := secretKey().FindStringSubmatchIndex(line)
	if m == nil {
		return line
	}
	word := strings.ToLower(line[m[2]:m[3]])
	for _, harmless := range []string{"password_env", "password_file", "password_command", "keyboard"} {
		if strings.HasPrefix(word, harmless) {
			return line[:m[4]] + redact(line[m[4]:])
		}
	}
	return line[:m[4]] + "••••"
}

// newlines turns the line ends that YAML knows into one.
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// parseConfig decodes a config file strictly and reports all that is wrong
// with it at once, as fileErrors. A YAML syntax error ends the reading, so it
// comes alone.
func parseConfig(path string, src []byte) (*configFile, error) {
	d := &decoder{fileErrors: fileErrors{path: path, lines: strings.Split(newlines.Replace(string(src)), "\n")}, at: map[string]place{}, anchors: map[string]ast.Node{}}
	f := &configFile{path: path, at: d.at}
	// Duplicate keys are the decoder's to report, with both lines.
	tree, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		p, msg := place{1, 1}, err.Error()
		if errors.As(err, &syntax) {
			msg = syntax.GetMessage()
			p = tokenPlace(syntax.GetToken())
		}
		if p.line <= len(d.lines) && strings.HasPrefix(strings.TrimLeft(d.lines[p.line-1], " "), "\t") {
			msg = "a tab in the indent: YAML indents with spaces"
		}
		d.fail(p, "%s", msg)
		return nil, d.err()
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			d.fail(nodePlace(doc.Body), "a second document: a config is one")
			break
		}
		body = doc.Body
	}
	if body != nil {
		d.value(body, reflect.ValueOf(&f.Config).Elem(), "")
	}
	d.judge(&f.Config)
	if err := d.err(); err != nil {
		return nil, err
	}
	f.resolvePaths()
	return f, nil
}

// decoder fills structs from a YAML tree. It exists because the library's own
// strict decoder stops at the first error.
type decoder struct {
	fileErrors
	at      map[string]place
	anchors map[string]ast.Node
}

func (d *decoder) fail(p place, format string, args ...any) {
	d.all = append(d.all, fileError{p, fmt.Sprintf(format, args...)})
}

func (d *decoder) err() error {
	if len(d.all) == 0 {
		return nil
	}
	slices.SortStableFunc(d.all, func(a, b fileError) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.col - b.col
	})
	return d.fileErrors
}

func tokenPlace(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// nodePlace returns where n begins.
func nodePlace(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 { // its own token is the first colon
			return nodePlace(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return nodePlace(n.Key)
	}
	return tokenPlace(n.GetToken())
}

// value decodes n into v. name is the dotted place of v in the config.
func (d *decoder) value(n ast.Node, v reflect.Value, name string) {
	switch t := n.(type) {
	case *ast.AnchorNode:
		d.value(t.Value, v, name)
		// Known only now, so that an anchor cannot contain itself.
		d.anchors[t.Name.GetToken().Value] = t.Value
		return
	case *ast.AliasNode:
		if to := d.anchors[t.Value.GetToken().Value]; to != nil {
			d.value(to, v, name)
		} else {
			d.fail(nodePlace(n), "no anchor &%s stands before this", t.Value.GetToken().Value)
		}
		return
	case *ast.TagNode:
		d.fail(nodePlace(n), "tags are not understood here")
		return
	case *ast.NullNode:
		return // as good as left out
	}
	if _, scalar := scalarText(n); scalar || d.at[name] == (place{}) {
		d.at[name] = nodePlace(n)
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(n, v, name)
	case reflect.Map:
		for _, e := range d.entries(n, name) {
			scalar, ok := scalarText(e.Value)
			if !ok {
				d.fail(nodePlace(e.Value), "%s.%s wants one word", name, e.key)
				continue
			}
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			d.at[name+"."+e.key] = nodePlace(e.Key)
			v.SetMapIndex(reflect.ValueOf(e.key), reflect.ValueOf(scalar))
		}
	case reflect.Slice:
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			d.wrong(n, name, "a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
		for i, item := range list.Values {
			d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", name, i))
		}
	case reflect.Int:
		i, ok := n.(*ast.IntegerNode)
		if !ok {
			d.wrong(n, name, "a number")
			return
		}
		if x, err := strconv.Atoi(i.Token.Value); err == nil {
			v.SetInt(int64(x))
		} else {
			d.wrong(n, name, "a small whole number")
		}
	case reflect.String:
		switch s := n.(type) {
		case *ast.StringNode:
			v.SetString(s.Value)
		case *ast.LiteralNode:
			v.SetString(s.Value.Value)
		default:
			d.wrong(n, name, "text")
		}
	}
}

func (d *decoder) wrong(n ast.Node, name, want string) {
	has, advice := "something else", ""
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		has = "a mapping"
	case *ast.SequenceNode:
		has = "a list"
	case *ast.StringNode, *ast.LiteralNode:
		has = "text"
	case *ast.BoolNode:
		has = "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		has = "a number"
	}
	if _, scalar := scalarText(n); scalar && want == "text" {
		advice = ": put it in quotes"
	}
	if name == "" {
		name = "the config"
	}
	d.fail(nodePlace(n), "%s wants %s and is %s%s", name, want, has, advice)
}

// scalarText returns a scalar as it is written, so that 6.0 stays 6.0.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// entry is one pair of a mapping.
type entry struct {
	*ast.MappingValueNode
	key string
}

// entries returns the pairs of a mapping, each key once: a second one is an
// error, and what a merge key (<<) brings yields to what is written out.
func (d *decoder) entries(n ast.Node, name string) []entry {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.wrong(n, name, "a mapping")
		return nil
	}
	var out []entry
	var merged []entry
	first := map[string]int{} // key → line
	for _, p := range pairs {
		if p.Key.IsMergeKey() {
			merged = append(merged, d.merge(p.Value, name)...)
			continue
		}
		key, ok := scalarText(p.Key)
		if !ok {
			d.fail(nodePlace(p.Key), "a key is one word")
			continue
		}
		if line, dup := first[key]; dup {
			d.fail(nodePlace(p.Key), "%s stands here a second time; the first is in line %d", key, line)
			continue
		}
		first[key] = nodePlace(p.Key).line
		out = append(out, entry{p, key})
	}
	for _, e := range merged {
		if _, dup := first[e.key]; !dup {
			first[e.key] = 0
			out = append(out, e)
		}
	}
	return out
}

func (d *decoder) merge(n ast.Node, name string) []entry {
	switch t := n.(type) {
	case *ast.AliasNode:
		to := d.anchors[t.Value.GetToken().Value]
		if to == nil {
			d.fail(nodePlace(n), "no anchor &%s stands before this", t.Value.GetToken().Value)
			return nil
		}
		return d.merge(to, name)
	case *ast.SequenceNode:
		var all []entry
		for _, item := range t.Values {
			all = append(all, d.merge(item, name)...)
		}
		return all
	}
	return d.entries(n, name)
}

func (d *decoder) fields(n ast.Node, v reflect.Value, name string) {
	known := map[string]reflect.Value{}
	var names []string
	for _, f := range reflect.VisibleFields(v.Type()) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" {
			known[tag] = v.FieldByIndex(f.Index)
			names = append(names, tag)
		}
	}
	for _, e := range d.entries(n, name) {
		field, ok := known[e.key]
		if !ok {
			d.unknown(e, name, names)
			continue
		}
		inner := e.key
		if name != "" {
			inner = name + "." + e.key
		}
		d.at[inner] = nodePlace(e.Key)
		d.value(e.Value, field, inner)
	}
}

// unknown reports a key that the format does not have, and hides its value in
// what will be shown: a misspelled password key has a password after it.
func (d *decoder) unknown(e entry, name string, names []string) {
	p := nodePlace(e.Key)
	if p.line <= len(d.lines) && strings.Contains(d.lines[p.line-1], ":") {
		r := []rune(d.lines[p.line-1])
		end := min(len(r), p.col-1+len([]rune(e.key)))
		d.lines[p.line-1] = string(r[:end]) + ": …"
	}
	if e.key == "password" && slices.Contains(names, "password_command") {
		d.fail(p, "a password does not belong in a config file: use password_command (say [pass, show, NAME]), password_env or password_file, or leave it out to be asked")
		return
	}
	where := ""
	if name != "" {
		where = " in " + name
	}
	if near := nearest(e.key, names); near != "" {
		d.fail(p, "unknown key %s%s: did you mean %s?", e.key, where, near)
		return
	}
	d.fail(p, "unknown key %s%s: known are %s", e.key, where, strings.Join(names, ", "))
}

// where returns the place of a value, or of the nearest thing around it.
func (d *decoder) where(name string) place {
	for name != "" {
		if p, ok := d.at[name]; ok {
			return p
		}
		name = name[:max(0, strings.LastIndexAny(name, ".["))]
	}
	return place{1, 1}
}

// goodHostName reports what a host may be called: an argument that ends in
// .json or holds a slash is a plan file to the net commands.
func goodHostName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return strings.Trim(s[:1], letters) == "" && strings.Trim(s, letters+"._-") == "" && !strings.HasSuffix(s, ".json")
}

// judge finds what is well-formed and still wrong.
func (d *decoder) judge(c *Config) {
	_, given := d.at["version"]
	switch misread := c.Version == 0 && len(d.all) > 0; {
	case !given:
		d.fail(place{1, 1}, "version is missing: this format is version: 1")
	case c.Version != 1 && !misread:
		d.fail(d.where("version"), "version %d is not known: this labctl reads version 1", c.Version)
	}
	d.judgeAccess(&c.VCenter, "vcenter")
	first := map[string]int{}
	for i := range c.Hosts {
		h, name := &c.Hosts[i], fmt.Sprintf("hosts[%d]", i)
		p := d.where(name + ".name")
		switch line, dup := first[strings.ToLower(h.Name)]; {
		case h.Name == "":
			d.fail(p, "%s has no name", name)
		case dup:
			d.fail(p, "a second host is called %s; the first is in line %d", h.Name, line)
		case h.Name == "vcenter":
			d.fail(p, "a host cannot be called vcenter: host trust vcenter means the vCenter")
		case !goodHostName(h.Name):
			d.fail(p, "a host's name is made of letters, digits, dots and dashes, and does not end in .json")
		}
		first[strings.ToLower(h.Name)] = p.line
		d.judgeAccess(&h.Access, name)
		if h.Keyboard != "" && !keyboardURI(h.Keyboard) {
			d.fail(d.where(name+".keyboard"), "a keyboard is /dev/hidg0, ssh://[user@]pi, vm://HOST/VM, or sim:")
		}
		for _, f := range []struct{ key, text string }{{"hold", h.Pace.Hold}, {"gap", h.Pace.Gap}, {"lead", h.Pace.Lead}} {
			if pause, err := time.ParseDuration(f.text); f.text != "" && (err != nil || pause <= 0) {
				d.fail(d.where(name+".pace."+f.key), "pace.%s %q is no duration such as 30ms", f.key, f.text)
			}
		}
	}
	d.judgeAccess(c.VCH.Ops.access(), "vch.ops")
	if t := c.VCH.TLS; t != "" && t != "none" && t != "server" && t != "verify" {
		d.fail(d.where("vch.tls"), "vch.tls %q is none of none, server and verify", t)
	}
	if c.VCH.Target != "" {
		if _, _, err := esxi.ParseURL(c.VCH.Target); err != nil {
			d.fail(d.where("vch.target"), "vch.target: %s", err)
		}
	}
}

func keyboardURI(s string) bool {
	if strings.HasPrefix(s, "/") || s == "sim:" {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && slices.Contains([]string{"ssh", "vm", "sim"}, u.Scheme) && u.Host != ""
}

func (d *decoder) judgeAccess(a *Access, name string) {
	if a.URL != "" {
		_, user, err := esxi.ParseURL(a.URL)
		switch p := d.where(name + ".url"); {
		case err != nil:
			d.fail(p, "%s.url: %s", name, err)
		case user != "" && a.User != "" && user != a.User:
			d.fail(p, "%s.url names user %s, %s.user another", name, user, name)
		}
	}
	if a.Thumbprint != "" {
		t, err := esxi.ParseThumbprint(a.Thumbprint)
		if err != nil {
			d.fail(d.where(name+".thumbprint"), "%s: %s", name, err)
		}
		a.Thumbprint = t
	}
	var given []string
	for _, field := range []string{"password_command", "password_env", "password_file"} {
		if _, ok := d.at[name+"."+field]; ok {
			given = append(given, field)
		}
	}
	for _, field := range given[min(1, len(given)):] {
		d.fail(d.where(name+"."+field), "%s has %s already: one source of the password is enough", name, given[0])
	}
	if c := a.PasswordCommand; len(given) > 0 && given[0] == "password_command" && (len(c) == 0 || c[0] == "") {
		d.fail(d.where(name+".password_command"), "%s.password_command names no program", name)
	}
}

// resolvePaths makes paths absolute, or at least relative to the file they are
// written in and not to where labctl happens to run.
func (f *configFile) resolvePaths() {
	dir := filepath.Dir(f.path)
	resolve := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) && !strings.HasPrefix(*p, "~/") {
			*p = filepath.Join(dir, *p)
		}
	}
	resolve(&f.VCH.Bundle)
	resolve(&f.VCH.Ops.PasswordFile)
	if c := f.VCH.Ops.PasswordCommand; len(c) > 0 && strings.Contains(c[0], "/") {
		resolve(&c[0])
	}
	access := []*Access{&f.VCenter}
	for i := range f.Hosts {
		access = append(access, &f.Hosts[i].Access)
	}
	for _, a := range access {
		resolve(&a.PasswordFile)
		if c := a.PasswordCommand; len(c) > 0 && strings.Contains(c[0], "/") {
			resolve(&c[0])
		}
	}
}
