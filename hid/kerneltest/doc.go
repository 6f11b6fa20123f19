// Package kerneltest is for its tests: they boot Debian's kernel in QEMU and let
// labctl type, through a gadget and the kernel's own simulated USB port
// (dummy_hcd), into the same kernel's keyboard driver, event devices and console.
//
// They fail where a test of package guest fails inside the machine, and where the
// machine does not boot, oopses, or is silent for too long; then with the end of
// its console. They are skipped, with what is missing by name, where there is no
// QEMU or no Debian to take the kernel from, and under go test -short.
package kerneltest
