// Package guest holds the tests that run inside the machine which package
// kerneltest boots, as its first process and below it.
//
// Outside of that machine they run not at all.
package guest
