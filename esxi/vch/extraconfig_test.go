package vch

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// golden returns the keys that vic-machine 1.5.8 gave a default VCH on ESXi,
// read after it had booted.
func golden(t *testing.T) Keys {
	t.Helper()
	b, err := os.ReadFile("testdata/vic-1.5.8-default.json")
	if err != nil {
		t.Fatal(err)
	}
	keys := Keys{}
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	delete(keys, "govcsim")
	return keys
}

// What vic-machine wrote decodes, and encodes to the same keys again. Secrets
// are compared opened, as each writing seals them anew.
func TestGoldenRoundTrip(t *testing.T) {
	keys := golden(t)
	sk, err := ParseSecretKey(keys[ovfEnv])
	if err != nil {
		t.Fatal(err)
	}
	var c Config
	if err := DecodeKeys(keys, &c, sk); err != nil {
		t.Fatal(err)
	}
	if c.Init.Common.ID != "VirtualMachine:vm-14" || c.Init.Common.Name != "vch1" || c.Init.Version.String() != "v1.5.8-0-2c978fe" {
		t.Errorf("decoded %+v %v", c.Init.Common, c.Init.Version)
	}
	if c.Connect.Token != "pass" || !strings.HasPrefix(string(c.Cert.HostCertificate.Key), "-----BEGIN RSA PRIVATE KEY-----") {
		t.Errorf("the secrets did not open: %d bytes of key", len(c.Cert.HostCertificate.Key))
	}
	again, err := EncodeKeys(c, sk)
	if err != nil {
		t.Fatal(err)
	}
	delete(keys, ovfEnv)
	delete(keys, "answer.msg.serial.file.open")
	if d := cmp.Diff(opened(t, keys, sk), opened(t, again, sk)); d != "" {
		t.Errorf("(-vic-machine +here)\n%s", d)
	}
}

func opened(t *testing.T, keys Keys, sk *SecretKey) Keys {
	t.Helper()
	out := Keys{}
	for k, v := range keys {
		if strings.HasSuffix(k, secretSuffix) {
			plain, err := sk.open(v)
			if err != nil {
				t.Errorf("%s: %v", k, err)
			}
			v = plain
		}
		out[k] = v
	}
	return out
}

// The known answer was checked with VIC's own decoder.
func TestSecretKnownAnswer(t *testing.T) {
	var k SecretKey
	var nonce [nonceSize]byte
	for i := range k.key {
		k.key[i] = 1
	}
	for i := range nonce {
		nonce[i] = 2
	}
	if got, want := k.text(), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	const want = "AgICAgICAgICAgICAgICAgICAgICAgICMR5yFJM56RkIfw3MFBR9XY4AvY8bTg=="
	if got := k.sealWith(nonce, "secret"); got != want {
		t.Errorf("sealed %s, want %s", got, want)
	}
	if got, err := k.open(want); err != nil || got != "secret" {
		t.Errorf("opened %q, %v", got, err)
	}
}

// all has every kind of value and every form and suffix of a key.
type all struct {
	Text   string
	Hidden string            `extra:"hidden,hidden"`
	Pass   string            `extra:"pass,secret"`
	Yes    bool              `extra:"yes,rw"`
	N      int64             `extra:"n"`
	Wait   time.Duration     `extra:"wait,volatile"`
	F      float64           `extra:"f"`
	At     time.Time         `extra:"at"`
	Raw    []byte            `extra:"raw"`
	List   []string          `extra:"list,volatile"`
	Nums   []int             `extra:"nums,secret"`
	Raws   [][]byte          `extra:"raws,rw"`
	Inner  *inner            `extra:"inner,rw"`
	Inners []inner           `extra:"inners,volatile"`
	Map    map[string]inner  `extra:"map"`
	Ptrs   map[string]*inner `extra:"ptrs,rw"`
	Words  map[string]string `extra:"words"`
	Skip   string            `extra:"-"`
	Uint   uint              `extra:"-"`
}

type inner struct {
	Plain string
	Back  string `extra:"back"`
	Deep  struct{ A, B string }
}

func TestInverse(t *testing.T) {
	text := rapid.StringMatching(`[a-zA-Z0-9 /.=:,ü-]{0,12}`)
	name := rapid.StringMatching(`[a-z][a-z0-9 -]{0,6}`)
	raw := rapid.SliceOfN(rapid.Byte(), 1, 8)
	in := rapid.Custom(func(t *rapid.T) inner {
		var v inner
		v.Plain, v.Back, v.Deep.A, v.Deep.B = text.Draw(t, "plain"), text.Draw(t, "back"), text.Draw(t, "a"), text.Draw(t, "b")
		return v
	})
	// An empty list or map has no key, so it comes back as nil.
	rapid.Check(t, func(t *rapid.T) {
		want := all{
			Text: text.Draw(t, "text"), Hidden: text.Draw(t, "hidden"), Pass: text.Draw(t, "pass"),
			Yes: rapid.Bool().Draw(t, "yes"), N: rapid.Int64().Draw(t, "n"),
			Wait: time.Duration(rapid.Int64().Draw(t, "wait")), F: rapid.Float64().Draw(t, "f"),
			At: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC(),
		}
		if rapid.Bool().Draw(t, "full") {
			want.Raw = raw.Draw(t, "raw")
			want.List = rapid.SliceOfN(text, 1, 4).Draw(t, "list")
			want.Nums = rapid.SliceOfN(rapid.Int(), 1, 4).Draw(t, "nums")
			want.Raws = rapid.SliceOfN(raw, 1, 3).Draw(t, "raws")
			want.Inners = rapid.SliceOfN(in, 1, 3).Draw(t, "inners")
			want.Map = rapid.MapOfN(name, in, 1, 3).Draw(t, "map")
			want.Words = rapid.MapOfN(name, text, 1, 3).Draw(t, "words")
			want.Ptrs = map[string]*inner{}
			for k, v := range rapid.MapOfN(name, in, 1, 3).Draw(t, "ptrs") {
				want.Ptrs[k] = &v
			}
			one := in.Draw(t, "inner")
			want.Inner = &one
		}
		sk := NewSecretKey()
		keys, err := EncodeKeys(want, sk)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range keys {
			if v == "" {
				t.Fatalf("%s is empty: vSphere would drop it", k)
			}
		}
		var got all
		if err := DecodeKeys(keys, &got, sk); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		// Without the key everything but the secrets is still there.
		var blind all
		if err := DecodeKeys(keys, &blind, nil); err != nil {
			t.Fatal(err)
		}
		want.Pass, want.Nums = "", nil
		if d := cmp.Diff(want, blind); d != "" {
			t.Fatal(d)
		}
	})
}

func TestKeyForms(t *testing.T) {
	v := all{Text: "t", Hidden: "h", List: []string{"a", "b"}, Raws: [][]byte{{1}}, Inner: &inner{Plain: "p", Back: "b"}, Inners: []inner{{}}}
	keys, err := EncodeKeys(v, NewSecretKey())
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"guestinfo.vice./Text":                          "t",
		"hidden":                                        "h",
		"guestinfo.vice..yes":                           "false",
		"guestinfo.vice./list@non-persistent":           "1",
		"guestinfo.vice./list~@non-persistent":          "a|b",
		"guestinfo.vice..raws|0":                        "AQ==",
		"guestinfo.vice..inner.Plain":                   "p",
		"guestinfo.vice./inner/back":                    "b",
		"guestinfo.vice..inner.Deep.A":                  nothing,
		"guestinfo.vice./inners|0/Plain@non-persistent": nothing,
		"guestinfo.vice./inners|0/back@non-persistent":  nothing,
		"guestinfo.vice./at":                            "0001-01-01 00:00:00 +0000 UTC",
		"guestinfo.vice./f":                             "0E+00",
	} {
		if keys[k] != want {
			t.Errorf("%s = %q, want %q", k, keys[k], want)
		}
	}
	for _, k := range []string{"guestinfo.vice./raw", "guestinfo.vice./map", "guestinfo.vice./nums@secret", "guestinfo.vice./Skip"} {
		if v, there := keys[k]; there {
			t.Errorf("%s = %q, want no such key", k, v)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for want, v := range map[string]all{
		"guestinfo.vice./list@non-persistent: a list element cannot hold |": {List: []string{"a|b"}},
		`guestinfo.vice./words: "a|b" cannot be a name`:                     {Words: map[string]string{"a|b": ""}},
		"guestinfo.vice./Text: <nil> cannot be told":                        {Text: "<nil>"},
	} {
		if _, err := EncodeKeys(v, NewSecretKey()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := EncodeKeys(all{Pass: "hunter2"}, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("without a key: %v", err)
	}
}

// The keys of the container VM and the VCH that were seen with VIC 0.4.
func TestOldKeys(t *testing.T) {
	const id = "2cf7f483bf6e7f32daa53f51ca388d5fb153f78d3a74d313318099086638ad58"
	var e Executor
	err := DecodeKeys(Keys{
		"guestinfo./common/name":                     "jolly_panini",
		"guestinfo./repo":                            "hello-world",
		"guestinfo./sessions":                        id,
		"guestinfo./sessions|" + id + "/common/name": "jolly_panini",
		"guestinfo./sessions|" + id + "/cmd/Path":    "/hello",
		"guestinfo..sessions|" + id + ".started":     "true",
		"guestinfo.something.else":                   "1",
	}, &e, nil)
	s := e.Sessions[id]
	if err != nil || s == nil || e.Common.Name != "jolly_panini" || e.Repo != "hello-world" || s.Cmd.Path != "/hello" || s.Started != "true" {
		t.Errorf("%v: %+v %+v", err, e, s)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("guestinfo.vice./init/networks", "bridge|client", "guestinfo.vice./init/networks|bridge/ip/IP", "AAAA")
	f.Add("guestinfo.vice./container/ComputeResources", "999999999", "init/common/name", "x")
	f.Add("guestinfo.vice./init/sessions|a/cmd/Args", "-1", "guestinfo.vice./init/sessions", "a")
	f.Add("guestinfo.vice./connect/token@secret", "AgIC", "guestinfo./init/common/id", "VirtualMachine:1")
	sk := NewSecretKey()
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		var c Config
		if err := DecodeKeys(Keys{k1: v1, k2: v2}, &c, sk); err != nil {
			return
		}
		// What decodes without complaint is the same after another round,
		// unless the encoder refuses it by name.
		keys, err := EncodeKeys(c, sk)
		if err != nil {
			return
		}
		var again Config
		if err := DecodeKeys(keys, &again, sk); err != nil {
			t.Fatalf("%v", err)
		}
		two, err := EncodeKeys(again, sk)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(opened(t, keys, sk), opened(t, two, sk)); d != "" {
			t.Fatal(d)
		}
	})
}

// What a foreign hand broke is named, and the rest still read.
func TestDecodeGoesOn(t *testing.T) {
	keys := golden(t)
	keys["guestinfo.vice./init/networks|bridge/static"] = "perhaps"
	keys["guestinfo.vice./container/ComputeResources"] = "4000000000"
	var c Config
	err := DecodeKeys(keys, &c, nil)
	if err == nil || !strings.Contains(err.Error(), "bridge/static") || !strings.Contains(err.Error(), "ComputeResources") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(c.Init.Sessions["port-layer"].Cmd.Args, []string{"/sbin/port-layer-server", "--host=localhost", "--port=2377"}) {
		t.Errorf("%+v", c.Init.Sessions["port-layer"])
	}
}
