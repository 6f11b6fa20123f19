package dcui

import (
	"strconv"
	"strings"
)

// place is a screen or a dialog of the console.
type place uint8

const (
	welcome place = iota
	denied
	login
	loginError
	menu
	password
	passwordError
	lockdown
	mgmt
	adapters
	adapterDetails
	vlan
	ipv4
	ipv6
	dns
	suffixes
	mgmtError
	mgmtConfirm
	restartMgmt
	restartMgmtResult
	disableMgmt
	disableMgmtResult
	test
	testResult
	restore
	restoreSettings
	restoreStandard
	restoreVDS
	restoreResult
	keyboard
	trouble
	timeouts
	idle
	troubleError
	agents
	agentsResult
	logs
	logView
	logSearch
	support
	extensions
	reset
	power
	off
	booting
	shellOff
	shellLogin
	shellPassword
	shellPrompt
	status
	kernelLog
	placeCount
)

var placeNames = [placeCount]string{
	welcome: "welcome", denied: "denied", login: "login", loginError: "login.error",
	menu: "menu", password: "password", passwordError: "password.error", lockdown: "lockdown",
	mgmt: "mgmt", adapters: "mgmt.adapters", adapterDetails: "mgmt.adapters.details", vlan: "mgmt.vlan",
	ipv4: "mgmt.ipv4", ipv6: "mgmt.ipv6", dns: "mgmt.dns", suffixes: "mgmt.suffixes",
	mgmtError: "mgmt.error", mgmtConfirm: "mgmt.confirm",
	restartMgmt: "restart_mgmt", restartMgmtResult: "restart_mgmt.result",
	disableMgmt: "disable_mgmt", disableMgmtResult: "disable_mgmt.result",
	test: "test", testResult: "test.result",
	restore: "restore", restoreSettings: "restore.settings", restoreStandard: "restore.standard",
	restoreVDS: "restore.vds", restoreResult: "restore.result",
	keyboard: "keyboard", trouble: "trouble", timeouts: "trouble.timeouts", idle: "trouble.idle",
	troubleError: "trouble.error", agents: "agents", agentsResult: "agents.result",
	logs: "logs", logView: "logs.view", logSearch: "logs.search", support: "support", extensions: "extensions",
	reset: "reset", power: "power", off: "off", booting: "booting",
	shellOff: "shell.off", shellLogin: "shell.login", shellPassword: "shell.password",
	shellPrompt: "shell", status: "status", kernelLog: "log",
}

// startPlaces are the values of the fact screen: where somebody may have left
// the console. Messages that only a key brings up are not among them.
var startPlaces = []place{
	welcome, login, menu, password, lockdown,
	mgmt, adapters, vlan, ipv4, ipv6, dns, suffixes, mgmtConfirm,
	restartMgmt, test, restore, restoreSettings, restoreStandard, restoreVDS,
	keyboard, trouble, timeouts, idle, agents, logs, support, reset, power,
	shellPrompt, status, kernelLog,
}

// condition says on which hosts an item is there, or can be selected.
type condition uint8

const (
	always      condition = iota
	only50                // ESXi 5.0
	since51               // ESXi 5.1 and later
	since60               // ESXi 6.0 and later
	localOnly             // a local console
	hasMgmt               // a management vmkernel adapter existed at the login
	distributed           // that adapter is on a distributed switch
	lockable              // the lockdown item is selectable
)

// item is a line of a menu.
type item struct {
	label    string
	there    condition
	enabled  condition
	opens    place
	gap      bool // an empty line follows
	about    string
	evidence Evidence // of its position and of what it opens
}

// The menus hold the items of every version in one order, so that a cursor
// means the same in all of them.
var menus = [placeCount][]item{
	menu: {
		{label: "Configure Password", opens: password, evidence: seenConsole,
			about: "Set. A password keeps strangers from this host."},
		{label: "Configure Lockdown Mode", enabled: lockable, opens: lockdown, gap: true, evidence: lockdownNotes,
			about: "In lockdown mode the host is managed through vCenter Server only."},
		{label: "Configure Management Network", enabled: hasMgmt, opens: mgmt, evidence: seenConsole,
			about: "Hostname, IPv4 and IPv6 settings of this host."},
		{label: "Restart Management Network", enabled: hasMgmt, opens: restartMgmt, evidence: networkGuide,
			about: "Restarts the management network and renews a DHCP lease."},
		{label: "Test Management Network", enabled: hasMgmt, opens: test, evidence: keyTable,
			about: "Pings some addresses and resolves a hostname."},
		{label: "Disable Management Network", there: only50, enabled: hasMgmt, opens: disableMgmt, evidence: practice,
			about: "Takes the management network down until it is restarted."},
		{label: "Restore Standard Switch", there: only50, enabled: distributed, opens: restoreStandard, evidence: practice,
			about: "Moves the management network from a distributed to a new standard switch."},
		{label: "Network Restore Options", there: since51, opens: restore, gap: true, evidence: seenConsole,
			about: "Restores the network settings, a standard switch or a distributed switch."},
		{label: "Configure Keyboard", there: localOnly, opens: keyboard, evidence: seenConsole,
			about: "Layout of the keyboard at this console."},
		{label: "Troubleshooting Options", opens: trouble, gap: true, evidence: securityGuide,
			about: "ESXi Shell, SSH, time-outs, management agents."},
		{label: "View System Logs", opens: logs, evidence: logNotes,
			about: "Logs of the kernel, the configuration and the management agents."},
		{label: "View Support Information", opens: support, gap: true, evidence: supportNotes,
			about: "Serial number, licence and fingerprints of this host."},
		{label: "Remove Custom Extensions", there: only50, opens: extensions, evidence: practice,
			about: "Removes all extensions that are no part of the image."},
		{label: "Reset System Configuration", opens: reset, evidence: seenConsole,
			about: "Sets everything back to defaults, the password included."},
	},
	mgmt: {
		{label: "Network Adapters", opens: adapters, evidence: seenConsole, about: "vmnic0"},
		{label: "VLAN (optional)", opens: vlan, gap: true, evidence: seenConsole, about: "VLAN of the management network."},
		{label: "IPv4 Configuration", opens: ipv4, evidence: seenConsole, about: "Address, subnet mask and default gateway."},
		{label: "IPv6 Configuration", opens: ipv6, evidence: seenConsole, about: "IPv6 addresses and default gateway."},
		{label: "DNS Configuration", opens: dns, evidence: seenConsole, about: "DNS servers and hostname."},
		{label: "Custom DNS Suffixes", opens: suffixes, evidence: seenConsole, about: "Suffixes for names without a dot."},
	},
	restore: {
		{label: "Restore Network Settings", opens: restoreSettings, evidence: practice,
			about: "Deletes all network settings and goes back to the defaults."},
		{label: "Restore Standard Switch", enabled: distributed, opens: restoreStandard, evidence: dimmedGuide,
			about: "Moves the management network from a distributed to a new standard switch."},
		{label: "Restore vDS", enabled: distributed, opens: restoreVDS, evidence: restoreNotes,
			about: "Moves the management network to a new port on its distributed switch."},
	},
	trouble: {
		{label: "ESXi Shell", evidence: securityGuide}, // the label is Enable or Disable and this
		{label: "SSH", evidence: securityGuide},
		{label: "Modify ESXi Shell and SSH timeouts", opens: timeouts, evidence: securityGuide,
			about: "Minutes until the shell closes, and until an idle session ends."},
		{label: "Modify DCUI idle timeout", there: since60, opens: idle, evidence: practice,
			about: "Minutes until an idle console logs out; 0 is never."},
		{label: "Restart Management Agents", opens: agents, evidence: networkGuide,
			about: "Restarts the services that vCenter Server and clients talk to."},
	},
}

// Positions in the menus that code speaks of.
const (
	itemMgmt        = 2
	itemRestartMgmt = 3
	itemShell       = 0
	itemSSH         = 1
)

// parent is where Esc leads from a screen, and where a message that is closed
// leads.
var parent = [placeCount]place{
	denied: welcome, login: welcome, loginError: login, menu: welcome,
	password: menu, passwordError: password, lockdown: menu, mgmt: menu,
	adapters: mgmt, adapterDetails: adapters, vlan: mgmt, ipv4: mgmt, ipv6: mgmt, dns: mgmt, suffixes: mgmt,
	mgmtConfirm: mgmt, restartMgmt: menu, restartMgmtResult: menu, disableMgmt: menu, disableMgmtResult: menu,
	test: menu, testResult: menu, restore: menu, restoreSettings: restore, restoreStandard: restore,
	restoreVDS: restore, restoreResult: restore, keyboard: menu, trouble: menu, timeouts: trouble, idle: trouble,
	agents: trouble, agentsResult: trouble, logs: menu, logView: logs, logSearch: logView, support: menu, extensions: menu,
	reset: menu, power: welcome,
}

// kind is the kind of a field.
type kind uint8

const (
	text kind = iota
	hidden
	check
	radio
)

// field is a line of a form that takes the cursor.
type field struct {
	kind  kind
	label string
	under int8 // with a radio's position + 1, the field takes the cursor only while that radio is marked
	value string
}

// forms holds the dialogs with fields, with what stands in them at first. The
// addresses are those of RFC 5737; the model knows no host's own.
var forms = [placeCount][]field{
	login:    {{kind: text, label: "Login Name:", value: "root"}, {kind: hidden, label: "Password:"}},
	password: {{kind: hidden, label: "Old Password:"}, {kind: hidden, label: "New Password:"}, {kind: hidden, label: "Confirm Password:"}},
	lockdown: {{kind: check, label: "Enable Lockdown Mode"}},
	adapters: {
		{kind: check, label: "vmnic0    Onboard LAN             (...aa:01)  Connected", value: marked},
		{kind: check, label: "vusb0     USB LAN                 (...aa:02)  Connected"},
	},
	vlan: {{kind: text, label: "VLAN ID (1-4094, or 4095 to access all VLANs):"}},
	ipv4: {
		{kind: radio, label: "Disable IPv4 configuration for management network"},
		{kind: radio, label: "Use dynamic IPv4 address and network configuration"},
		{kind: radio, label: "Set static IPv4 address and network configuration:", value: marked},
		{kind: text, label: "IPv4 Address", under: 3, value: "192.0.2.10"},
		{kind: text, label: "Subnet Mask", under: 3, value: "255.255.255.0"},
		{kind: text, label: "Default Gateway", under: 3, value: "192.0.2.1"},
	},
	ipv6: {
		{kind: check, label: "Enable IPv6 (restart required)", value: marked},
		{kind: radio, label: "Use DHCP stateful configuration"},
		{kind: radio, label: "Use ICMP stateless configuration", value: marked},
		{kind: radio, label: "Set static IPv6 address and network configuration:"},
		{kind: text, label: "Static address #1", under: 4},
		{kind: text, label: "Static address #2", under: 4},
		{kind: text, label: "Static address #3", under: 4},
		{kind: text, label: "Default gateway", under: 4},
	},
	dns: {
		{kind: radio, label: "Obtain DNS server addresses and a hostname automatically"},
		{kind: radio, label: "Use the following DNS server addresses and hostname:", value: marked},
		{kind: text, label: "Primary DNS Server", under: 2, value: "192.0.2.1"},
		{kind: text, label: "Alternate DNS Server", under: 2},
		{kind: text, label: "Hostname", under: 2, value: "nuc01"},
	},
	suffixes: {{kind: text, label: "Suffixes:", value: "lab.local"}},
	test: {
		{kind: text, label: "Ping Address #0:", value: "192.0.2.1"},
		{kind: text, label: "Ping Address #1:", value: "192.0.2.1"},
		{kind: text, label: "Ping Address #2:"},
		{kind: text, label: "Resolve Hostname:", value: "nuc01.lab.local"},
	},
	restoreVDS: {
		{kind: check, label: "vmnic0", value: marked},
		{kind: text, label: "VLAN ID:"},
	},
	keyboard: layoutRadios(),
	timeouts: {
		{kind: text, label: "Availability timeout:", value: "0"},
		{kind: text, label: "Idle timeout:", value: "0"},
	},
	logSearch: {{kind: text, label: "Search for:"}},
	idle:      {{kind: text, label: "DCUI idle timeout:", value: "10"}},
}

func layoutRadios() []field {
	f := make([]field, layoutCount)
	for i, l := range layoutNames {
		f[i] = field{kind: radio, label: l.esxi}
	}
	return f
}

// marked is the value of a check box or a radio button that is set.
const marked = "x"

// Values of a form, and the forms that wait to be applied, are kept in one
// string, so that a World can be compared and copied like a number.
const (
	fieldEnd = "\x00"
	formEnd  = "\x01"
)

func part(s, end string, i int) string {
	for ; ; i-- {
		j := strings.Index(s, end)
		if j < 0 {
			return ""
		}
		if i == 0 {
			return s[:j]
		}
		s = s[j+1:]
	}
}

func setPart(s, end string, i int, value string) string {
	at := 0
	for range i {
		at += strings.Index(s[at:], end) + 1
	}
	return s[:at] + value + s[at+strings.Index(s[at:], end):]
}

// fresh holds the values of each form as it opens.
var fresh = freshForms()

func freshForms() (all [placeCount]string) {
	for p, fields := range forms {
		for _, f := range fields {
			all[p] += f.value + fieldEnd
		}
	}
	return all
}

// mgmtForms are the forms whose values wait for the confirm of the management
// network; their order is that in World.pending.
var mgmtForms = [...]place{adapters, vlan, ipv4, ipv6, dns, suffixes}

func mgmtForm(p place) int {
	for i, q := range mgmtForms {
		if p == q {
			return i
		}
	}
	return -1
}

var freshSettings = func() (s string) {
	for _, p := range mgmtForms {
		s += fresh[p] + formEnd
	}
	return s
}()

// acceptable says whether the values of a form pass the checks that the
// console is known or supposed to make.
func acceptable(p place, lines string) bool {
	switch p {
	case vlan:
		return isNumber(part(lines, fieldEnd, 0), 4095)
	case restoreVDS:
		return isNumber(part(lines, fieldEnd, 1), 4095)
	case timeouts:
		return isNumber(part(lines, fieldEnd, 0), 1<<31) && isNumber(part(lines, fieldEnd, 1), 1<<31)
	case idle:
		return isNumber(part(lines, fieldEnd, 0), 1<<31)
	case ipv4:
		if part(lines, fieldEnd, 2) == "" {
			return true
		}
		for i := 3; i < 6; i++ {
			if s := part(lines, fieldEnd, i); s == "" && i < 5 || !isAddress(s) {
				return false
			}
		}
	}
	for _, r := range lines {
		if isGarbled(r) {
			return false
		}
	}
	return true
}

func isNumber(s string, most int64) bool {
	if s == "" || isPlaceholder(s) {
		return true
	}
	n, err := strconv.ParseInt(s, 10, 64) // an int has 32 bits on the smaller Raspberry Pis
	return err == nil && n >= 0 && n <= most && !strings.HasPrefix(s, "+")
}

func isAddress(s string) bool {
	if s == "" || isPlaceholder(s) {
		return true
	}
	n := 0
	for b := range strings.SplitSeq(s, ".") {
		if b == "" || !isNumber(b, 255) {
			return false
		}
		n++
	}
	return n == 4
}
