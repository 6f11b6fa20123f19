package main

import (
	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	write := map[string]func(*cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(a.stdout, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(a.stdout) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(a.stdout, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(a.stdout) },
	}
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Completion script for a shell",
		Long: `Completion writes a script that makes the tab key complete commands, flags, and
what they are about: hosts, keyboards, recipes and their files, facts, layouts,
risks, and the switches, port groups and VCHs that labctl saw last. It reads the
config and the state folder only: the tab key asks no host and no password. The
Debian package has the scripts already.`,
		Example:   "  labctl completion bash > ~/.local/share/bash-completion/completions/labctl",
		Args:      argsBetween(1, 1, "a shell: bash, zsh, fish or powershell"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, ok := write[args[0]]
			if !ok {
				err := usagef("no completion for shell %s: there are bash, zsh, fish and powershell", args[0])
				if near := nearest(args[0], shells); near != "" {
					return hintf(err, "did you mean %s?", near)
				}
				return err
			}
			return w(cmd.Root())
		},
	}
}
