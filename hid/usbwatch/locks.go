package usbwatch

import "github.com/labctl/labctl/hid"

var lockLights = map[hid.Usage]hid.LEDs{
	hid.KeyNumLock: hid.NumLock, hid.KeyCapsLock: hid.CapsLock, hid.KeyScroll: hid.ScrollLock,
}

// lockState is a host's idea of its lock keys: each press of one turns it over.
type lockState struct {
	keys hid.Decoder
	on   hid.LEDs
}

// take returns whether a report changes a lock.
func (s *lockState) take(r hid.Report) (changed bool) {
	for _, e := range s.keys.Decode(r) {
		if e.Down && lockLights[e.Key] != 0 {
			s.on ^= lockLights[e.Key]
			changed = true
		}
	}
	return changed
}
