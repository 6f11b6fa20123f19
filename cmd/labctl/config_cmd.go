package main

import "github.com/spf13/cobra"

func (a *app) configCommand() *cobra.Command {
	return a.noun("config", "The configuration", "x", "  labctl config check")
}
