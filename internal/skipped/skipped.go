// Package skipped leaves tests out where somebody sees it: go test hides the
// reasons, so make test names a file for them and shows it at the end.
package skipped

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// T is what is needed of a test.
type T interface {
	Helper()
	Name() string
	Error(...any)
	Skip(...any)
}

// Test skips the test and adds the reason to the file that LABCTL_SKIPPED names.
// The variable is read only here: go test would not cache a result under it
// otherwise.
func Test(t T, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	if name := os.Getenv("LABCTL_SKIPPED"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Skip(why)
}

// Without skips the test where a program is missing, and names its package.
func Without(t T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		Test(t, "no %s: on Debian, apt-get install %s", program, debian)
	}
}
