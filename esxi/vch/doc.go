// Package vch stands up, lists, inspects and removes vSphere Integrated
// Containers' Virtual Container Hosts, in the form that vic-machine 1.5 gives
// them, so that either tool can work on what the other one made.
//
// What speaks against an installation is an *InvalidError with every finding.
// An Up that fails later takes back what it made, and nothing else: its error
// is an *UpError that lists what is left. Down goes on past what it cannot
// remove and reports it in Removal.Left. Neither depends on what a call
// returned: whether an object is there is read from the inventory.
package vch
