package kerneltest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
)

// consoleMaps names the console keymap of console-data for each of ESXi's
// layouts, by its short name. ESXi's own files cannot be had; these are the ones
// by the same people for the same consoles.
var consoleMaps = map[string]string{
	"be": "azerty/be-latin1", "br": "qwerty/br-abnt2", "hr": "qwertz/croat", "cz": "qwerty/cz-lat2",
	"dk": "qwerty/dk-latin1", "us": "qwerty/us", "ee": "qwerty/et", "fi": "qwerty/fi-latin1",
	"fr": "azerty/fr-latin9", "de": "qwertz/de-latin1", "gr": "qwerty/gr", "is": "qwerty/is-latin1",
	"it": "qwerty/it", "jp": "qwerty/jp106", "latam": "qwerty/la-latin1", "no": "qwerty/no-latin1",
	"pl": "qwerty/pl", "pt": "qwerty/pt-latin1", "ru": "qwerty/ru", "si": "qwertz/slovene",
	"es": "qwerty/es", "se": "qwerty/se-latin1", "ch-fr": "qwertz/fr_CH-latin1", "ch-de": "qwertz/sg-latin1",
	"tr": "qwerty/trqu", "us-dvorak": "dvorak/dvorak", "ua": "qwerty/ua-utf", "gb": "qwerty/uk",
}

// keymaps returns console keymaps by the short name of the layout, in the binary
// form that busybox's loadkmap reads, as ESXi's installer loads them: a table of
// keys without one of accents.
func keymaps(t testing.TB, kbd, consoleData string) map[string][]byte {
	t.Helper()
	maps := map[string][]byte{}
	for short, file := range consoleMaps {
		cmd := exec.CommandContext(t.Context(), filepath.Join(kbd, "bin/loadkeys"), "--bkeymap", "--unicode",
			filepath.Join(consoleData, "usr/share/keymaps/i386", file+".kmap.gz"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("compiling console keymap %s: %v: %s", file, err, stderr.String())
		}
		maps[short] = out
	}
	return maps
}
