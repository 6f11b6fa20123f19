package main

import "github.com/spf13/cobra"

func (a *app) recipeRecordCommand() *cobra.Command { return &cobra.Command{Use: "record"} }
