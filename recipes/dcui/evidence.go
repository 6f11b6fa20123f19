package dcui

// Grade says how well a transition is known. A higher grade is a weaker one,
// so the weakest of several is their maximum.
type Grade uint8

const (
	Documented Grade = iota // in a vendor's manual, or in notes that go key by key
	Seen                    // in a console's text or on a screenshot
	Recalled                // common practice, without a text to point at
	Inferred                // follows from other facts
)

func (g Grade) String() string {
	return [...]string{"documented", "seen", "recalled", "inferred"}[g]
}

// Evidence is what a transition of the model rests on.
type Evidence struct {
	Grade  Grade
	Source string
}

// The sources that more than one transition rests on.
var (
	seenConsole    = Evidence{Seen, "console text of an ESXi 6.7.0 host (build 16713306) over a serial line"}
	keyNotes       = Evidence{Documented, "key-by-key notes on an ESXi 6.5 installation"}
	networkGuide   = Evidence{Documented, "vSphere Networking guide, 5.x: confirm with F11"}
	dimmedGuide    = Evidence{Documented, "vSphere Networking guide, 5.x: a dimmed selection cannot be selected"}
	securityGuide  = Evidence{Documented, "vSphere Security guide, 6.5 and 6.7: Troubleshooting Mode Options"}
	strictNotes    = Evidence{Documented, "notes with screenshots on strict lockdown mode, ESXi 6.0"}
	consoleNotes   = Evidence{Documented, "notes on Alt+F1, F2, F11 and F12 at the ESXi console"}
	timeoutGuide   = Evidence{Documented, "CIS benchmark and STIG for ESXi: UserVars.DcuiTimeOut"}
	contrastNotes  = Evidence{Documented, "course notes: F4 turns the high-contrast screen on and off"}
	keyTable       = Evidence{Recalled, "vSphere manual, About the Direct Console ESXi Interface: table of keys"}
	practice       = Evidence{Recalled, "common practice"}
	restoreNotes   = Evidence{Documented, "course notes and knowledge base article 311145: Restore vDS"}
	logNotes       = Evidence{Documented, "notes on ESXi 7.0: 1 shows syslog, q leaves"}
	supportNotes   = Evidence{Documented, "notes on ESXi 7.0: page keys and Esc"}
	lockdownNotes  = Evidence{Documented, "knowledge base articles 309592 and 2017394"}
	byAnalogy      = Evidence{Inferred, "as on the other screens of the console"}
	nothingKnown   = Evidence{Inferred, "no source gives this key a meaning here"}
	hostIsDown     = Evidence{Inferred, "a host that is off or booting has no console"}
	linuxKeyboard  = Evidence{Inferred, "Linux-style console keymap"}
	loginQuoted    = Evidence{Inferred, "a page that quotes the message of a failed login"}
	keypadShell    = Evidence{Documented, "notes on typing a character by Alt and its decimal code at the ESXi shell"}
	keypadField    = Evidence{Inferred, "one keyboard driver feeds all consoles, and the shell takes keypad codes"}
	wrapUnknown    = Evidence{Inferred, "whether menus wrap is a fact of its own"}
	lockdownUnseen = Evidence{Inferred, "a selection that is dimmed is passed over"}
)
