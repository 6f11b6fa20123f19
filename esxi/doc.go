// Package esxi opens a vSphere API, vCenter's or an ESXi host's own, proves
// whose it is by a pinned certificate, and finds the host to work on.
//
// It fails before a password leaves this machine: a certificate that is not
// the pinned one is a *PinError, one that nobody vouches for and nobody pinned
// an *UntrustedError, a host that does not answer in time a *DialError. A
// refused login is a *LoginError. Later, each refused call is a *CallError
// that says in plain words what the server objected to.
package esxi
