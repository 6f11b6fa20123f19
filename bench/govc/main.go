// Govc is govc's own command line, as far as the benchmark needs it: the commands of the pinned govmomi release,
// registered and run the way govc does. It fails as govc does.
//
// Fewer commands are linked than in a released govc, which only makes it start sooner.
package main

import (
	"os"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/dvs/portgroup"
	_ "github.com/vmware/govmomi/cli/host/esxcli"
	_ "github.com/vmware/govmomi/cli/host/portgroup"
	_ "github.com/vmware/govmomi/cli/host/vnic"
	_ "github.com/vmware/govmomi/cli/host/vswitch"
	_ "github.com/vmware/govmomi/cli/vm/network"
)

func main() { os.Exit(cli.Run(os.Args[1:])) }
