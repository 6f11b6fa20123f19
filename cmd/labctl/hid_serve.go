package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid"
)

// hidServeCommand is the Pi's end of an ssh:// keyboard.
func (a *app) hidServeCommand() *cobra.Command {
	var stdio bool
	var device, uri, root string
	c := &cobra.Command{
		Use: "serve --stdio", Short: "Let a labctl at the other end of a connection type with this machine's keyboard",
		Long: `Serve is the far end of a keyboard ssh://pi: labctl starts it there through ssh,
and speaks with it on stdin and stdout. Pauses, the proof that the host took each
report, and the watchdog are at this end. When the connection ends, or is silent
for half a second, all keys are released, the host sees the keyboard no more, and
nothing is typed until the next run.`,
		Example: "  ssh root@pi labctl hid serve --stdio --device /dev/hidg0",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !stdio {
				return hintf(usagef("hid serve knows only --stdio"), "labctl itself starts it, for --keyboard ssh://pi")
			}
			if uri == "" {
				uri = device
			}
			k, err := parseKeyboardURI(uri)
			if err != nil {
				return err
			}
			if k.kind == "ssh" {
				return usagef("--keyboard %s: a served keyboard is one of this machine", k.text)
			}
			return a.hidServe(cmd.Context(), uri, root)
		},
	}
	c.Flags().BoolVar(&stdio, "stdio", false, "speak on stdin and stdout")
	c.Flags().StringVar(&device, "device", "/dev/hidg0", "the keyboard's device `FILE`")
	c.Flags().StringVar(&uri, "keyboard", "", "`URI` of a keyboard to serve instead: sim: or sim://ADDR:PORT/HOST")
	rootFlag(c, &root)
	return c
}

func (a *app) hidServe(ctx context.Context, uri, root string) error {
	// A connection that has gone must not end this end before it has released keys.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	told := false
	err := hid.Serve(ctx, a.stdin, a.stdout, hid.ServeOptions{
		Release: buildVersion().Release,
		Open: func(ctx context.Context, w hid.Wish) (*hid.Served, error) {
			if w.Timeout > 0 {
				a.set.Timeout = a.upTo(w.Timeout)
			}
			kb, err := a.openKeyboard(ctx, keyboardOptions{
				URI: uri, Command: w.Command + " over ssh", Settle: w.Settle, Watcher: w.Watcher,
				Root: root, Guarded: true, Deadline: hid.WireDeadline,
			})
			if err != nil {
				return nil, err
			}
			return &hid.Served{Keyboard: kb.Keyboard, Finish: kb.Close}, nil
		},
		Hint: func(err error) string { told = true; return hintOf(err, "") },
	})
	if told && err != nil {
		return exitWith(exitCode(ctx, err), nil) // the other end says it
	}
	return err
}
