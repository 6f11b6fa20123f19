package kerneltest

import "testing"

func keymaps(t testing.TB, kbd, consoleData string) map[string][]byte {
	return nil
}
