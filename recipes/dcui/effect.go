package dcui

import "math/bits"

// Effect is something that keys did to the host. A greater effect is a worse
// one.
type Effect uint8

const (
	Nothing Effect = iota
	PingTest
	ShellCommand
	SettingsChanged // the console keymap, a time-out
	ShellOff
	ShellOn
	SSHOff
	SSHOn
	AgentsRestarted
	NetworkRestarted
	LockdownOff
	LockdownOn
	PasswordChanged
	NetworkChanged
	HostRestarted
	HostShutDown
	DistributedRestored
	StandardRestored
	NetworkWiped
	SystemReset
)

var effectNames = [...]string{
	Nothing: "nothing", PingTest: "ping test", ShellCommand: "shell command run", SettingsChanged: "settings changed",
	ShellOff: "shell off", ShellOn: "shell on", SSHOff: "ssh off", SSHOn: "ssh on",
	AgentsRestarted: "management agents restarted", NetworkRestarted: "management network restarted",
	LockdownOff: "lockdown off", LockdownOn: "lockdown on", PasswordChanged: "password changed",
	NetworkChanged: "management network changed", HostRestarted: "host restarted", HostShutDown: "host shut down",
	DistributedRestored: "distributed switch restored", StandardRestored: "standard switch restored",
	NetworkWiped: "all networking wiped", SystemReset: "system configuration reset",
}

func (e Effect) String() string { return effectNames[e] }

// Destructive says whether an effect takes away what no key can bring back.
func (e Effect) Destructive() bool { return e >= DistributedRestored }

// Named says whether the effect is one of those that a check's JSON speaks of.
// The others change nothing that the model follows: what a command does at the
// shell it does not know, and a keymap or a time-out is the console's own.
func (e Effect) Named() bool { return e != ShellCommand && e != SettingsChanged }

// effects is a set of effects.
type effects uint32

func (s effects) worst() Effect {
	if s == 0 {
		return Nothing
	}
	return Effect(bits.Len32(uint32(s)) - 1)
}

func (s *effects) add(e Effect) { *s |= 1 << e }
