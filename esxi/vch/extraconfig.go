package vch

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// VIC keeps its configuration in a virtual machine's ExtraConfig: one key per
// value, the path of the value as the key, and its visibility as the key's
// form. A struct field says its key with a tag:
//
//	Name string `extra:"name,hidden"`
//
// The options are ro (default: the guest reads it), rw (the guest writes it
// too), hidden (the host side only), secret (encrypted) and volatile (VIC drops
// it at power-off). A field without a tag goes by its Go name and takes form
// and suffixes of what it is in.

// The prefixes of what the guest reads and of what it writes. VIC 0.4 had them
// without vice.
const (
	readPrefix     = "guestinfo.vice./"
	writePrefix    = "guestinfo.vice.."
	oldReadPrefix  = "guestinfo./"
	oldWritePrefix = "guestinfo.."
)

// nothing stands for the empty string: ExtraConfig drops a key with an empty
// value.
const nothing = "<nil>"

// listSeparator joins list elements and map keys. It has no escape.
const listSeparator = "|"

// timeLayout is how VIC's encoder prints a time.Time.
const timeLayout = "2006-01-02 15:04:05.999999999 -0700 MST"

type form int

const (
	readOnly form = iota
	readWrite
	hidden
)

// slot is the place of a value among the keys.
type slot struct {
	path             string // segments joined by slashes
	form             form
	secret, volatile bool
}

// key returns the slot's key; mark stands between the path and the suffixes.
func (s slot) key(mark string) string {
	var k string
	switch s.form {
	case readWrite:
		k = writePrefix + strings.ReplaceAll(s.path+mark, "/", ".")
	case hidden:
		k = s.path + mark
	default:
		k = readPrefix + s.path + mark
	}
	if s.secret {
		k += secretSuffix
	}
	if s.volatile {
		k += "@non-persistent"
	}
	return k
}

// field returns the slot of a struct field, false for one that has none.
func (s slot) field(f reflect.StructField) (slot, bool) {
	tag, tagged := f.Tag.Lookup("extra")
	name := f.Name
	out := s
	if tagged {
		words := strings.Split(tag, ",")
		name = words[0]
		out.form, out.secret = readOnly, false
		for _, option := range words[1:] {
			switch option {
			case "rw":
				out.form = readWrite
			case "hidden":
				out.form = hidden
			case "secret":
				out.secret = true
			case "volatile":
				out.volatile = true
			}
		}
	}
	switch {
	case !f.IsExported() || name == "-":
		return slot{}, false
	case out.form == hidden && out.volatile:
		return slot{}, false // VIC has no key for the combination
	case s.path == "":
		out.path = name
	default:
		out.path = s.path + "/" + name
	}
	return out, true
}

func (s slot) element(name string) slot {
	s.path += listSeparator + name
	return s
}

// Keys are ExtraConfig values by key. A nil *SecretKey with EncodeKeys or
// DecodeKeys stands for no access to secrets.
type Keys map[string]string

// EncodeKeys returns the keys of v, a struct or a pointer to one. Values that
// the format cannot hold are errors that name their key. Secrets need a
// SecretKey.
func EncodeKeys(v any, sk *SecretKey) (Keys, error) {
	e := encoder{keys: Keys{}, sk: sk}
	e.value(reflect.ValueOf(v), slot{})
	return e.keys, errors.Join(e.errs...)
}

type encoder struct {
	keys Keys
	sk   *SecretKey
	errs []error
}

func (e *encoder) fail(key, format string, args ...any) {
	e.errs = append(e.errs, fmt.Errorf("encode %s: %w", key, fmt.Errorf(format, args...)))
}

func (e *encoder) put(s slot, mark, text string) {
	key := s.key(mark)
	switch {
	case text == nothing:
		e.fail(key, "%s cannot be told from an empty text", nothing)
		return
	case text == "":
		text = nothing
	}
	if !s.secret {
		e.keys[key] = text
		return
	}
	if e.sk == nil {
		e.fail(key, "a secret needs a key")
		return
	}
	sealed, err := e.sk.seal(text)
	if err != nil {
		e.fail(key, "%w", err)
		return
	}
	e.keys[key] = sealed
}

func (e *encoder) value(v reflect.Value, s slot) {
	if text, ok := scalar(v); ok {
		e.put(s, "", text)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			e.value(v.Elem(), s)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f, ok := s.field(v.Type().Field(i)); ok {
				e.value(v.Field(i), f)
			}
		}
	case reflect.Slice:
		e.list(v, s)
	case reflect.Map:
		e.table(v, s)
	}
}

func (e *encoder) list(v reflect.Value, s slot) {
	if v.Len() == 0 || isBytes(v.Type()) {
		return
	}
	e.put(s, "", strconv.Itoa(v.Len()-1))
	if !inLine(v.Type().Elem()) {
		for i := range v.Len() {
			e.value(v.Index(i), s.element(strconv.Itoa(i)))
		}
		return
	}
	texts := make([]string, v.Len())
	for i := range texts {
		texts[i], _ = scalar(v.Index(i))
		if strings.Contains(texts[i], listSeparator) {
			e.fail(s.key(""), "a list element cannot hold %s", listSeparator)
			return
		}
	}
	e.put(s, "~", strings.Join(texts, listSeparator))
}

func (e *encoder) table(v reflect.Value, s slot) {
	if v.Len() == 0 {
		return
	}
	var names []string
	for _, k := range v.MapKeys() {
		name := k.String()
		if name == "" || strings.ContainsAny(name, listSeparator+"/") {
			e.fail(s.key(""), "%q cannot be a name", name)
			return
		}
		names = append(names, name)
	}
	slices.Sort(names)
	e.put(s, "", strings.Join(names, listSeparator))
	for _, name := range names {
		e.value(v.MapIndex(reflect.ValueOf(name).Convert(v.Type().Key())), s.element(name))
	}
}

// scalar returns the text of a value that takes one key. Bytes without content
// have none; unsigned numbers are not part of the format.
func scalar(v reflect.Value) (string, bool) {
	if !v.IsValid() {
		return "", false
	}
	if t, ok := v.Interface().(time.Time); ok {
		return t.Format(timeLayout), true
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), true
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'E', -1, v.Type().Bits()), true
	case reflect.Slice:
		if isBytes(v.Type()) && v.Len() > 0 {
			return base64.StdEncoding.EncodeToString(v.Bytes()), true
		}
	}
	return "", false
}

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

var timeType = reflect.TypeFor[time.Time]()

// inLine reports whether a list of t is one joined text.
func inLine(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return true
	}
	return false
}

// DecodeKeys fills v, a pointer to a struct, from keys of VIC 1.5 or 0.4. Keys
// that v has no field for are ignored, missing ones leave their field alone.
// Values that do not fit are errors that name their key; everything else is
// still decoded. Without a SecretKey secrets stay empty.
func DecodeKeys(keys Keys, v any, sk *SecretKey) error {
	d := decoder{keys: modern(keys), sk: sk}
	d.value(reflect.ValueOf(v).Elem(), slot{})
	return errors.Join(d.errs...)
}

// modern returns keys as VIC 1.5 spells them. VIC 0.4 showed the guest its
// name, which 1.5 keeps hidden.
func modern(keys Keys) Keys {
	out := maps.Clone(keys)
	for k, v := range keys {
		rest, old := strings.CutPrefix(k, oldReadPrefix)
		if !old {
			if rest, written := strings.CutPrefix(k, oldWritePrefix); written {
				setMissing(out, writePrefix+rest, v)
			}
			continue
		}
		setMissing(out, readPrefix+rest, v)
		if rest == "common/name" || rest == "init/common/name" {
			setMissing(out, rest, v)
		}
	}
	return out
}

func setMissing(keys Keys, k, v string) {
	if _, there := keys[k]; !there {
		keys[k] = v
	}
}

type decoder struct {
	keys Keys
	sk   *SecretKey
	errs []error
}

func (d *decoder) fail(key, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("decode %s: %w", key, fmt.Errorf(format, args...)))
}

func (d *decoder) get(s slot, mark string) (string, bool) {
	key := s.key(mark)
	text, ok := d.keys[key]
	if !ok {
		return "", false
	}
	if s.secret {
		if d.sk == nil {
			return "", false
		}
		opened, err := d.sk.open(text)
		if err != nil {
			d.fail(key, "%w", err)
			return "", false
		}
		text = opened
	}
	if text == nothing {
		text = ""
	}
	return text, true
}

// value fills v and reports whether any key was there for it.
func (d *decoder) value(v reflect.Value, s slot) bool {
	t := v.Type()
	switch {
	case inLine(t) || isBytes(t) || t == timeType:
		text, ok := d.get(s, "")
		if !ok {
			return false
		}
		if err := setScalar(v, text); err != nil {
			d.fail(s.key(""), "%w", err)
		}
		return true
	case t.Kind() == reflect.Pointer:
		fresh := reflect.New(t.Elem())
		if !d.value(fresh.Elem(), s) {
			return false
		}
		v.Set(fresh)
		return true
	case t.Kind() == reflect.Struct:
		found := false
		for i := range t.NumField() {
			if f, ok := s.field(t.Field(i)); ok {
				found = d.value(v.Field(i), f) || found
			}
		}
		return found
	case t.Kind() == reflect.Slice:
		return d.list(v, s)
	case t.Kind() == reflect.Map:
		return d.table(v, s)
	}
	return false
}

func (d *decoder) list(v reflect.Value, s slot) bool {
	text, ok := d.get(s, "")
	if !ok {
		return false
	}
	last, err := strconv.Atoi(text)
	// Each element has at least one key, or one separator in the joined text.
	if err != nil || last < 0 || inLineBound(d, s, v.Type()) <= last {
		d.fail(s.key(""), "%.40q is no index of a last element", text)
		return true
	}
	list := reflect.MakeSlice(v.Type(), last+1, last+1)
	if inLine(v.Type().Elem()) {
		joined, _ := d.get(s, "~")
		texts := strings.Split(joined, listSeparator)
		for i := range list.Len() {
			if err := setScalar(list.Index(i), texts[i]); err != nil {
				d.fail(s.key("~"), "%w", err)
			}
		}
	} else {
		for i := range list.Len() {
			d.value(list.Index(i), s.element(strconv.Itoa(i)))
		}
	}
	v.Set(list)
	return true
}

// inLineBound returns how many elements the keys can hold at most: an index is
// a number that somebody wrote, and memory is taken by it.
func inLineBound(d *decoder, s slot, t reflect.Type) int {
	if !inLine(t.Elem()) {
		return len(d.keys)
	}
	joined, _ := d.get(s, "~")
	return strings.Count(joined, listSeparator) + 1
}

func (d *decoder) table(v reflect.Value, s slot) bool {
	text, ok := d.get(s, "")
	if !ok {
		return false
	}
	m := reflect.MakeMap(v.Type())
	for _, name := range strings.Split(text, listSeparator) {
		if name == "" {
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(item, s.element(name))
		m.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), item)
	}
	v.Set(m)
	return true
}

func setScalar(v reflect.Value, text string) error {
	var err error
	switch {
	case v.Type() == timeType:
		var at time.Time
		if at, err = time.Parse(timeLayout, text); err == nil {
			v.Set(reflect.ValueOf(at))
		}
	case v.Kind() == reflect.String:
		v.SetString(text)
	case text == "": // VIC's own zero value of anything
	case isBytes(v.Type()):
		var b []byte
		if b, err = base64.StdEncoding.DecodeString(text); err == nil {
			v.SetBytes(b)
		}
	case v.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
	case v.CanFloat():
		var f float64
		f, err = strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(f)
	}
	if err != nil {
		return fmt.Errorf("%.40q is no %s", text, v.Type())
	}
	return nil
}
