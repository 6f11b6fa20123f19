// Package network moves a host's vmkernel adapters and their uplinks between a
// Distributed vSwitch and a standard vSwitch, in one transaction that can be
// undone. Read takes a Snapshot, NewPlan turns it into a Plan without touching
// anything, and a Run carries the plan out, finishes it, or takes it back.
//
// It fails in three ways. What the planner will not do is a Refusal in the plan.
// A host that has changed since is a *StaleError. And once a changing call was
// sent there is always an Outcome, read back from the host and never from the
// answer to the call; where nothing can be read back it is Unknown, and the
// Journal on disk has what a later run needs.
package network
