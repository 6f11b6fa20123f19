package dcui

import (
	"fmt"
	"slices"
	"strings"
)

// fact is one dimension in which hosts differ.
type fact uint8

const (
	factESXi fact = iota
	factConsole
	factVCenter
	factLockdown
	factLockdownItem
	factManagement
	factWrap
	factCaps
	factShell
	factSSH
	factLayout
	factScreen
	factCount
)

// layoutCount is the number of console keymaps that ESXi offers.
const layoutCount = 28

// layoutNames holds ESXi's own names, as `esxcli system settings keyboard
// layout set` takes them, in the order of the installer's documentation, and
// the short ones.
var layoutNames = [layoutCount]struct{ short, esxi string }{
	{"be", "Belgian"}, {"br", "Brazilian"}, {"hr", "Croatian"}, {"cz", "Czechoslovakian"},
	{"dk", "Danish"}, {"us", "US Default"}, {"ee", "Estonian"}, {"fi", "Finnish"},
	{"fr", "French"}, {"de", "German"}, {"gr", "Greek"}, {"is", "Icelandic"},
	{"it", "Italian"}, {"jp", "Japanese"}, {"latam", "Latin American"}, {"no", "Norwegian"},
	{"pl", "Polish"}, {"pt", "Portuguese"}, {"ru", "Russian"}, {"si", "Slovenian"},
	{"es", "Spanish"}, {"se", "Swedish"}, {"ch-fr", "Swiss French"}, {"ch-de", "Swiss German"},
	{"tr", "Turkish"}, {"us-dvorak", "US Dvorak"}, {"ua", "Ukrainian"}, {"gb", "United Kingdom"},
}

// Two of the facts are easily taken for one. That vCenter manages a host does
// not settle whether its lockdown item can be selected: on a 6.0 host with its
// management on a distributed switch the item was passed over. So the item
// goes by lockdown_item alone, and vcenter, true as it may be, changes nothing
// at this console.

// factInfo gives the values of a fact in the order of their bits.
type factInfo struct {
	name   string
	values []string
	shift  uint8 // of the lowest bit within World.facts; unused by screen
}

// A world that must decide without knowing decides for the usual value. That
// is the first one, but for these, which have an order of their own.
const (
	usualESXi   = 6 // 7.0
	usualLayout = 5 // us
)

var factTable = makeFacts()

func makeFacts() [factCount]factInfo {
	t := [factCount]factInfo{
		factESXi:         {name: "esxi", values: []string{"5.0", "5.1", "5.5", "6.0", "6.5", "6.7", "7.0", "8.0"}},
		factConsole:      {name: "console", values: []string{"local", "serial"}},
		factVCenter:      {name: "vcenter", values: []string{"no", "yes"}},
		factLockdown:     {name: "lockdown", values: []string{"off", "normal", "strict"}},
		factLockdownItem: {name: "lockdown_item", values: []string{"dimmed", "selectable"}},
		factManagement:   {name: "management", values: []string{"standard", "distributed", "none"}},
		factWrap:         {name: "wrap", values: []string{"no", "yes"}},
		factCaps:         {name: "caps", values: []string{"off", "on"}},
		factShell:        {name: "shell", values: []string{"off", "on"}},
		factSSH:          {name: "ssh", values: []string{"off", "on"}},
		factLayout:       {name: "layout"},
		factScreen:       {name: "screen"},
	}
	for _, l := range layoutNames {
		t[factLayout].values = append(t[factLayout].values, l.short)
	}
	for _, p := range startPlaces {
		t[factScreen].values = append(t[factScreen].values, placeNames[p])
	}
	at := 0
	for f := range factScreen {
		t[f].shift = uint8(at)
		at += len(t[f].values)
	}
	return t
}

// factset holds for each fact the values that are still possible, one bit a
// value. The start screen has a word of its own: it does not fit beside the
// others.
type factset struct {
	host   uint64
	screen uint32
}

func (f fact) all() uint64 { return 1<<len(factTable[f].values) - 1 }

func (s factset) get(f fact) uint64 {
	if f == factScreen {
		return uint64(s.screen)
	}
	return s.host >> factTable[f].shift & f.all()
}

func (s factset) with(f fact, values uint64) factset {
	if f == factScreen {
		s.screen = uint32(values)
		return s
	}
	shift := factTable[f].shift
	s.host = s.host&^(f.all()<<shift) | values<<shift
	return s
}

// meets says whether two sets have a host in common.
func (s factset) meets(other factset) bool {
	for f := range factCount {
		if s.get(f)&other.get(f) == 0 {
			return false
		}
	}
	return true
}

func everything() factset {
	var s factset
	for f := range factCount {
		s = s.with(f, f.all())
	}
	return s
}

// usual gives the value to assume among those that are possible.
func usual(f fact, possible uint64) uint64 {
	best := uint64(1)
	switch f {
	case factESXi:
		best <<= usualESXi
	case factLayout:
		best <<= usualLayout
	}
	if possible&best != 0 {
		return best
	}
	return possible & -possible
}

// FactError says which name or value is no fact.
type FactError struct {
	Name  string
	Value string // empty when the name is at fault, or no value was given
}

func (e *FactError) Error() string {
	switch known := FactValues(e.Name); {
	case known != nil && e.Value == "":
		return fmt.Sprintf("fact %s has no value: it is one of %s", e.Name, strings.Join(known, ", "))
	case known == nil:
		return fmt.Sprintf("unknown fact %q: the facts are %s", e.Name, strings.Join(FactNames(), ", "))
	}
	return fmt.Sprintf("fact %s cannot be %q: it is one of %s", e.Name, e.Value, strings.Join(FactValues(e.Name), ", "))
}

// FactNames lists the facts in a fixed order.
func FactNames() []string {
	names := make([]string, 0, factCount)
	for f := range factCount {
		names = append(names, factTable[f].name)
	}
	return names
}

// FactValues lists the values of a fact, nil for a name that is none. Layouts
// are listed by their short names; ESXi's own are accepted too.
func FactValues(name string) []string {
	f, ok := factNamed(name)
	if !ok {
		return nil
	}
	return slices.Clone(factTable[f].values)
}

func factNamed(name string) (fact, bool) {
	for f := range factCount {
		if factTable[f].name == name {
			return f, true
		}
	}
	return 0, false
}

// valueBit gives the bit of one value.
func valueBit(name, value string) (fact, uint64, error) {
	f, ok := factNamed(name)
	if !ok {
		return 0, 0, &FactError{Name: name}
	}
	if f == factLayout {
		for i, l := range layoutNames {
			if strings.EqualFold(value, l.short) || strings.EqualFold(value, l.esxi) {
				return f, 1 << i, nil
			}
		}
	}
	if i := slices.Index(factTable[f].values, value); i >= 0 {
		return f, 1 << i, nil
	}
	return 0, 0, &FactError{Name: name, Value: value}
}

// parseFacts reads facts in the order of their names, so that the same input
// always gives the same error.
func parseFacts(facts map[string]string) (factset, error) {
	s := everything()
	names := make([]string, 0, len(facts))
	for name := range facts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f, bit, err := valueBit(name, facts[name])
		if err != nil {
			return factset{}, err
		}
		s = s.with(f, bit)
	}
	return s, nil
}
