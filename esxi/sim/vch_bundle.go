package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// bundleVersion is the release that labsim's images say they are.
const bundleVersion = "v1.5.8-0-2c978fe"

// fakeISO makes a file that begins like an ISO 9660 image of a VIC release: a primary volume descriptor with the
// volume's length and the release at the end of the publisher's name. There is no file system in it.
func fakeISO(version string, size int) []byte {
	const sector = 2048
	image := make([]byte, size/sector*sector)
	for i := range image {
		image[i] = byte(i*7 + i>>8) // nothing that a disk or a wire would shrink to nothing
	}
	d := image[isoVolume : isoVolume+sector]
	clear(d)
	pad := func(at, n int, s string) { copy(d[at:at+n], append([]byte(s), bytes.Repeat([]byte(" "), n)...)) }
	d[0], d[6] = 1, 1
	copy(d[1:], "CD001")
	pad(8, 32, "LINUX")
	pad(40, 32, "LABSIM")
	binary.LittleEndian.PutUint32(d[80:], uint32(len(image)/sector))
	binary.BigEndian.PutUint32(d[84:], uint32(len(image)/sector))
	binary.LittleEndian.PutUint16(d[128:], sector)
	binary.BigEndian.PutUint16(d[130:], sector)
	pad(190, 128, "")
	pad(318, 128, "labsim "+version)
	end := image[isoVolume+sector : isoVolume+2*sector]
	clear(end)
	end[0], end[6] = 255, 1
	copy(end[1:], "CD001")
	return image
}

// WriteBundle writes a folder like that of a VIC release, with images that labsim's VMs boot from and nobody else.
func WriteBundle(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing a bundle: %w", err)
	}
	for name, size := range map[string]int{"appliance.iso": 4 << 20, "bootstrap.iso": 2 << 20} {
		if err := os.WriteFile(filepath.Join(dir, name), fakeISO(bundleVersion, size), 0o600); err != nil {
			return fmt.Errorf("writing a bundle: %w", err)
		}
	}
	return nil
}
