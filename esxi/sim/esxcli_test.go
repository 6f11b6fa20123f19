package sim

import (
	"testing"

	"github.com/vmware/govmomi/cli/esx"
)

// govmomi's own client of esxcli is the measure of what goes over the wire.
func TestConsoleLayout(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	for _, via := range []string{"vcenter", "esxi"} {
		c := connect(t, l, via)
		x, err := esx.NewExecutor(t.Context(), c.Client, c.host)
		if err != nil {
			t.Fatal(err)
		}
		res, err := x.Run(t.Context(), []string{"system", "settings", "keyboard", "layout", "get"})
		if err != nil || res.String != consoleMap {
			t.Errorf("%s: %+v, %v", via, res, err)
		}
		if res, err := x.Run(t.Context(), []string{"hardware", "clock", "get"}); err != nil || res.String == "" {
			t.Errorf("%s: a command of vcsim's: %+v, %v", via, res, err)
		}
		if _, err := x.Run(t.Context(), []string{"system", "settings", "keyboard", "layout", "list"}); err == nil {
			t.Errorf("%s: a command that nobody has gets an answer", via)
		}
	}
}
