package recipes

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// badValue says why a value is not of a kind, or "".
func badValue(kind, value string) string {
	if strings.ContainsFunc(value, unicode.IsControl) {
		return "it holds a control character"
	}
	switch kind {
	case "number":
		if n, err := strconv.Atoi(value); err != nil || n < 0 || value[0] == '+' {
			return "want digits"
		}
	case "vlan":
		// 0 takes the tag away; 4095 passes all of them (the form's own words).
		if n, err := strconv.Atoi(value); err != nil || n < 0 || n > 4095 || value[0] == '+' {
			return "want a number from 0 to 4095"
		}
	case "ipv4":
		if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
			return "want an address such as 192.0.2.10"
		}
	case "netmask":
		a, err := netip.ParseAddr(value)
		if err != nil || !a.Is4() {
			return "want a mask such as 255.255.255.0"
		}
		b := a.As4()
		m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if ^m&(^m+1) != 0 {
			return "its ones are not in one piece"
		}
	case "hostname":
		if len(value) > 253 || !hostname.MatchString(value) {
			return "want letters, digits, dashes and dots"
		}
	}
	return ""
}

// caseless says whether Caps Lock leaves every value of a kind as it is.
func caseless(kind string) bool {
	switch kind {
	case "number", "vlan", "ipv4", "netmask":
		return true
	}
	return false
}
