package main

import "github.com/spf13/cobra"

func (a *app) netCommand() *cobra.Command {
	return a.noun("net", "the management network of a host", "Net moves vmk0 and its uplink between switches.", "  labctl net show nuc01")
}
