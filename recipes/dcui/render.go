package dcui

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Size of a screen in cells. A serial line shows 24 rows; the last one of its
// Screen is blank.
const (
	Rows    = 25
	Columns = 80
)

// Attr is the role of a cell; Colours gives what it looks like.
type Attr uint8

const (
	Backdrop    Attr = iota // around everything
	Banner                  // upper half of the welcome screen
	Amber                   // lower half of the welcome screen
	Title                   // headings of the two columns
	Plain                   // text and items
	Dim                     // items that cannot be selected
	Chosen                  // the item under the cursor
	Footer                  // key hints
	Version                 // the product line at the foot
	DialogTitle             // heading of a dialog
	Dialog                  // text of a dialog
	FieldText               // a field
	FieldFocus              // the field under the cursor
	DialogFoot              // key hints of a dialog
	Terminal                // other consoles
	attrCount

	// HighContrast is added to an Attr after F4.
	HighContrast Attr = 0x80
)

// Colour is one of the sixteen of a text console, and a nearer one for
// terminals that have more.
type Colour struct {
	ANSI    uint8
	R, G, B uint8
}

var (
	black   = Colour{0, 0x00, 0x00, 0x00}
	silver  = Colour{7, 0xc0, 0xc0, 0xc0}
	grey    = Colour{8, 0x55, 0x55, 0x55}
	yellow  = Colour{11, 0xff, 0xd7, 0x5f}
	orange  = Colour{3, 0xe8, 0xa0, 0x20}
	white   = Colour{15, 0xff, 0xff, 0xff}
	charred = Colour{0, 0x30, 0x30, 0x30}
)

var colours = [attrCount][2]Colour{
	Backdrop: {silver, charred}, Banner: {white, charred}, Amber: {black, orange},
	Title: {yellow, charred}, Plain: {silver, charred}, Dim: {grey, charred}, Chosen: {black, orange},
	Footer: {black, silver}, Version: {grey, charred},
	DialogTitle: {black, orange}, Dialog: {black, silver}, FieldText: {black, silver}, FieldFocus: {black, yellow},
	DialogFoot: {black, silver}, Terminal: {silver, black},
}

// Colours gives foreground and background.
func (a Attr) Colours() (fg, bg Colour) {
	base := a &^ HighContrast
	if base >= attrCount {
		base = Plain
	}
	fg, bg = colours[base][0], colours[base][1]
	if a&HighContrast == 0 {
		return fg, bg
	}
	switch base {
	case Chosen, FieldFocus, DialogTitle, Footer:
		return black, white
	case Dim:
		return grey, black
	}
	return white, black
}

// Cell is one character and its role.
type Cell struct {
	Rune rune
	Attr Attr
}

// Screen is what the console shows, row by row. Screens are compared with ==.
type Screen [Rows][Columns]Cell

// Text gives the rows without their roles, each ended by a line feed, blanks at
// its end left out.
func (s *Screen) Text() string {
	var b strings.Builder
	for r := range s {
		line := make([]rune, Columns)
		for c := range s[r] {
			line[c] = s[r][c].Rune
		}
		b.WriteString(strings.TrimRight(string(line), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// Render draws the screen in front.
func (w World) Render() Screen {
	return ask(w, func(w *World, s *step) Screen { return w.render(s) })
}

func (s *Screen) fill(row, col, rows, cols int, a Attr) {
	for r := row; r < row+rows; r++ {
		for c := col; c < col+cols; c++ {
			s[r][c] = Cell{' ', a}
		}
	}
}

// frame draws a border on all sides but the upper one, which a heading fills.
func (s *Screen) frame(row, col, rows, cols int, a Attr) {
	for r := row + 1; r < row+rows-1; r++ {
		s[r][col] = Cell{'│', a}
		s[r][col+cols-1] = Cell{'│', a}
	}
	s.put(row+rows-1, col, col+cols, a, "└"+strings.Repeat("─", cols-2)+"┘")
}

// put writes text and cuts it at the limit, a column.
func (s *Screen) put(row, col, limit int, a Attr, text string) {
	for _, r := range text {
		if col >= min(limit, Columns) || row >= Rows {
			return
		}
		s[row][col] = Cell{r, a}
		col++
	}
}

// wrapped writes text in lines of a width and gives the row after it.
func (s *Screen) wrapped(row, col, width int, a Attr, text string) int {
	if before, after, ok := strings.Cut(text, "\n"); ok {
		return s.wrapped(s.wrapped(row, col, width, a, before), col, width, a, after)
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			s.put(row, col, col+width, a, line)
			row, line = row+1, ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	s.put(row, col, col+width, a, line)
	return row + 1
}

// builds are those of the first releases, as the vendor lists them; that of
// 6.7 is the one whose console was seen.
var builds = [...]string{
	"5.0.0 (VMKernel Release Build 469512)", "5.1.0 (VMKernel Release Build 799733)",
	"5.5.0 (VMKernel Release Build 1331820)", "6.0.0 (VMKernel Release Build 2494585)",
	"6.5.0 (VMKernel Release Build 4564106)", "6.7.0 (VMKernel Release Build 16713306)",
	"7.0.0 (VMKernel Release Build 15843807)", "8.0.0 (VMKernel Release Build 20513097)",
}

func (w *World) product(s *step) string {
	for i, b := range builds {
		if s.is(w, factESXi, 1<<i) {
			return "VMware ESXi " + b
		}
	}
	return "VMware ESXi"
}

func (w *World) render(s *step) Screen {
	var scr Screen
	p := w.here(s)
	rows := Rows
	if !s.is(w, factConsole, local) {
		rows = Rows - 1
	}
	if p != off && p != booting && p != kernelLog {
		w.product(s)
	}
	if s.open {
		return scr // to be drawn again for each half, so not now
	}
	switch {
	case p == off || p == booting || w.console != 0:
		w.drawTerminal(&scr, s, p)
	case p == welcome || p == denied || p == login || p == loginError || p == power:
		w.drawWelcome(&scr, s, rows)
	default:
		w.drawMenu(&scr, s, rows)
	}
	if w.console == 0 && menus[p] == nil {
		w.drawDialog(&scr, s, p)
	}
	if w.flags&contrast != 0 && w.console == 0 && !w.down() {
		for r := range scr {
			for c := range scr[r] {
				scr[r][c].Attr |= HighContrast
			}
		}
	}
	return scr
}

func (w *World) drawTerminal(scr *Screen, s *step, p place) {
	scr.fill(0, 0, Rows, Columns, Terminal)
	var lines []string
	switch p {
	case booting:
		lines = []string{"The host restarts."}
	case shellLogin:
		lines = []string{w.product(s), "", "nuc01 login: " + shown(w.line)}
	case shellPassword:
		lines = []string{w.product(s), "", "nuc01 login:", "Password:"}
	case shellPrompt:
		lines = []string{"[root@nuc01:~] " + shown(w.line)}
	case shellOff:
		lines = []string{w.product(s), "", "ESXi Shell is disabled."}
	case status:
		lines = []string{w.product(s), "", "Host status"}
	case kernelLog:
		lines = []string{"VMkernel log"}
	}
	for i, l := range lines {
		scr.put(i, 0, Columns, Terminal, l)
	}
}

func (w *World) drawWelcome(scr *Screen, s *step, rows int) {
	half := rows / 2
	scr.fill(0, 0, Rows, Columns, Backdrop)
	scr.fill(0, 0, half, Columns, Banner)
	scr.fill(half, 0, rows-half, Columns, Amber)
	scr.put(3, 5, Columns, Banner, w.product(s))
	scr.put(5, 5, Columns, Banner, "Intel(R) Corporation NUC")
	scr.put(7, 5, Columns, Banner, "4 x Intel(R) Core(TM) CPU")
	scr.put(8, 5, Columns, Banner, "32 GiB Memory")
	scr.put(half+2, 5, Columns, Amber, "To manage this host go to:")
	if !s.now(w, factManagement, w.mgmtNow, noMgmt) {
		scr.put(half+3, 5, Columns, Amber, "http://nuc01.lab.local/")
		scr.put(half+4, 5, Columns, Amber, "http://192.0.2.10/ (STATIC)")
	} else {
		scr.put(half+3, 5, Columns, Amber, "(no management network)")
	}
	ends(scr, rows-2, Amber, "<F2> Customize System/View Logs", "<F12> Shut Down/Restart")
}

// ends writes key hints at both ends of a row.
func ends(scr *Screen, row int, a Attr, left, right string) {
	scr.fill(row, 0, 1, Columns, a)
	scr.put(row, 2, Columns, a, left)
	scr.put(row, Columns-2-utf8.RuneCountInString(right), Columns, a, right)
}

var titles = [placeCount]string{
	menu: "System Customization", mgmt: "Configure Management Network",
	restore: "Network Restore Options", trouble: "Troubleshooting Mode Options",
}

// backdropOf gives the menu that a screen lies on.
func (w *World) backdropOf(p place) place {
	for menus[p] == nil {
		switch {
		case p == mgmtError || p == troubleError:
			p = w.ret
		case (p == restoreStandard || p == restoreResult) && w.ret != 0:
			p = w.ret
		case p == welcome:
			return menu
		default:
			p = parent[p]
		}
	}
	return p
}

const divide = 40 // column where the right half begins

func (w *World) drawMenu(scr *Screen, s *step, rows int) {
	p := w.backdropOf(w.place)
	scr.fill(0, 0, Rows, Columns, Backdrop)
	scr.fill(0, 0, rows, Columns, Plain)
	scr.put(1, 2, divide, Title, titles[p])
	cursor := int(*w.cursor(p))
	row := 3
	for i := range menus[p] {
		it := &menus[p][i]
		if !s.holds(w, it.there) {
			continue
		}
		a := Plain
		switch {
		case i == cursor:
			a = Chosen
			scr.fill(row, 1, 1, divide-2, Chosen)
		case !s.holds(w, it.enabled):
			a = Dim
		}
		scr.put(row, 2, divide-1, a, w.label(s, p, i))
		row++
		if it.gap {
			row++
		}
	}
	w.drawDetail(scr, s, p, cursor)
	left, right := "<Up/Down> Select", "<Enter> Change  <Esc> Exit"
	if p == menu {
		right = "<Enter> More  <Esc> Log Out"
		if cursor == 0 {
			right = "<Enter> Change  <Esc> Log Out"
		}
	}
	ends(scr, rows-3, Footer, left, right)
	product := w.product(s)
	scr.put(rows-1, (Columns-len(product))/2, Columns, Version, product)
}

func (w *World) drawDetail(scr *Screen, s *step, p place, i int) {
	title, about := w.label(s, p, i), menus[p][i].about
	if p == trouble && (i == itemShell || i == itemSSH) {
		title = menus[p][i].label
		on := s.sshOn(w)
		if i == itemShell {
			on = s.shellOn(w)
		}
		about = title + " is Disabled"
		if on {
			about = title + " is Enabled"
		}
	}
	scr.put(1, divide+1, Columns, Title, title)
	scr.wrapped(3, divide+1, Columns-divide-3, Plain, about)
}

// dialogs holds heading, text and key hints of what opens over a menu.
var dialogs = [placeCount]struct{ title, text, foot string }{
	denied:            {"Authentication Denied", "Direct console access has been disabled by the administrator of nuc01.lab.local.", "<Enter> OK"},
	login:             {"Authentication Required", "Enter an authorized login name and password for nuc01.lab.local.", "<Enter> OK  <Esc> Cancel"},
	loginError:        {"Authentication Failed", "Invalid login or password.", "<Enter> OK"},
	password:          {"Configure Password", "", "<Enter> OK  <Esc> Cancel"},
	passwordError:     {"Configure Password", "The password was not changed.", "<Enter> OK"},
	lockdown:          {"Configure Lockdown Mode", "", "<Space> Toggle Selected  <Enter> OK  <Esc> Cancel"},
	adapters:          {"Network Adapters", "", "<D> View Details  <Space> Toggle Selected  <Enter> OK  <Esc> Cancel"},
	adapterDetails:    {"Network Adapter Details", "Link, driver and address of the adapter.", "<Esc> Exit"},
	vlan:              {"VLAN (optional)", "", "<Enter> OK  <Esc> Cancel"},
	ipv4:              {"IPv4 Configuration", "", "<Up/Down> Select  <Space> Mark Selected  <Enter> OK  <Esc> Cancel"},
	ipv6:              {"IPv6 Configuration", "", "<Up/Down> Select  <Space> Mark Selected  <Enter> OK  <Esc> Cancel"},
	dns:               {"DNS Configuration", "", "<Up/Down> Select  <Space> Mark Selected  <Enter> OK  <Esc> Cancel"},
	suffixes:          {"Custom DNS Suffixes", "", "<Enter> OK  <Esc> Cancel"},
	mgmtError:         {"Invalid Value", "A value of this form cannot be used.", "<Enter> OK"},
	mgmtConfirm:       {"Configure Management Network: Confirm", "The management network was changed. Applying the changes may cut remote sessions and running virtual machines off for a moment, and restarts this host where IPv6 was turned on or off. Apply changes and restart management network?", "<Y> Yes  <N> No  <Esc> Cancel"},
	restartMgmt:       {"Restart Management Network: Confirm", "The management network is down for a moment, and a DHCP lease is renewed.", "<F11> OK  <Esc> Cancel"},
	restartMgmtResult: {"Restart Management Network", "The management network was restarted.", "<Enter> OK"},
	disableMgmt:       {"Disable Management Network: Confirm", "This host cannot be managed until its management network is restarted.", "<F11> OK  <Esc> Cancel"},
	disableMgmtResult: {"Disable Management Network", "The management network was disabled.", "<Enter> OK"},
	test:              {"Test Management Network", "", "<Up/Down> Select  <Enter> OK  <Esc> Cancel"},
	testResult:        {"Testing Management Network", "Pings were sent and a hostname was looked up.", "<Enter> OK"},
	restoreSettings:   {"Restore Network Settings: Confirm", "All network settings of this host are deleted and set back to the defaults.", "<F11> OK  <Esc> Cancel"},
	restoreStandard:   {"Restore Standard Switch: Confirm", "A new standard switch is made, and the management network and its uplink move to it.", "<F11> OK  <Esc> Cancel"},
	restoreVDS:        {"Restore vDS", "", "<Space> Toggle Selected  <Enter> OK  <Esc> Cancel"},
	restoreResult:     {"Network Restore", "The network was restored.", "<Enter> OK"},
	keyboard:          {"Configure Keyboard", "", "<Up/Down> Select  <Space> Mark Selected  <Enter> OK  <Esc> Cancel"},
	timeouts:          {"Modify timeouts", "", "<Enter> OK  <Esc> Cancel"},
	idle:              {"Modify DCUI idle timeout", "", "<Enter> OK  <Esc> Cancel"},
	troubleError:      {"Invalid Value", "A value of this form cannot be used.", "<Enter> OK"},
	agents:            {"Restart Management Agents: Confirm", "Sessions of remote clients end while the management agents restart.", "<F11> OK  <Esc> Cancel"},
	agentsResult:      {"Restart Management Agents", "The management agents were restarted.", "<Enter> OK"},
	logs:              {"View System Logs", "<1> Syslog\n<2> VMkernel\n<3> Config\n<4> Management Agent (hostd)\n<5> VirtualCenter Agent (vpxa)\n<6> VMware ESXi Observation log (vobd)", "<1-6> View  <Esc> Exit"},
	logView:           {"View System Logs", "Lines of log number ", "<Q> Quit  </> Search"},
	logSearch:         {"View System Logs", "", "<Enter> OK  <Esc> Cancel"},
	support:           {"View Support Information", "Serial number, licence, SSL thumbprint and SSH key fingerprints.", "<PgUp/PgDn> Scroll  <Esc> Exit"},
	extensions:        {"Remove Custom Extensions: Confirm", "All extensions that are no part of the image are removed, and the host restarts.", "<F11> OK  <Esc> Cancel"},
	reset:             {"Reset System Configuration: Confirm", "All settings go back to the defaults, the password is removed, and the host restarts.", "<F11> OK  <Esc> Cancel"},
	power:             {"Shut Down/Restart", "Choose what this host is to do. Virtual machines that run are stopped.", "<F2> Shut Down  <F11> Restart  <Esc> Cancel"},
}

const (
	dialogWidth = 72
	listRows    = 12 // rows of a long list that are shown at once
)

func (w *World) drawDialog(scr *Screen, s *step, p place) {
	d := &dialogs[p]
	if d.title == "" {
		return
	}
	fields := forms[p]
	first, last := 0, len(fields)
	if last > listRows {
		first = max(0, min(int(w.focus)-listRows/2, last-listRows))
		last = first + listRows
	}
	note := d.text
	if p == logView {
		note += strconv.Itoa(int(w.log)) + "."
	}
	// The text is laid out off-screen first to learn its height.
	var probe Screen
	height := 0
	if note != "" {
		height = probe.wrapped(0, 2, dialogWidth-4, Dialog, note)
		if len(fields) > 0 {
			height++
		}
	}
	rows := 2 + height + (last - first) + 3 // heading, a gap above and below, hints, border
	top, lft := max(0, (Rows-2-rows)/2), (Columns-dialogWidth)/2
	scr.fill(top, lft, rows, dialogWidth, Dialog)
	scr.frame(top, lft, rows, dialogWidth, Dialog)
	scr.fill(top, lft, 1, dialogWidth, DialogTitle)
	scr.put(top, lft+2, lft+dialogWidth-2, DialogTitle, d.title)
	row := top + 2
	if note != "" {
		scr.wrapped(row, lft+2, dialogWidth-4, Dialog, note)
		row += height
	}
	for i := first; i < last; i++ {
		w.drawField(scr, row, lft+2, lft+dialogWidth-2, p, i, s)
		row++
	}
	scr.put(top+rows-2, lft+dialogWidth-2-len(d.foot), lft+dialogWidth-1, DialogFoot, d.foot)
}

func (w *World) drawField(scr *Screen, row, col, limit int, p place, i int, s *step) {
	f := forms[p][i]
	if p == password && i == 0 && w.root == "" {
		return
	}
	value := part(w.lines, fieldEnd, i)
	a := FieldText
	if i == int(w.focus) {
		a = FieldFocus
	}
	switch f.kind {
	case check, radio:
		open, on, shut := "[", "X", "]"
		if f.kind == radio {
			open, on, shut = "(", "o", ")"
		}
		mark := " "
		if value != "" {
			mark = on
		}
		if p == keyboard && !anyMarked(w.lines) && s.now(w, factLayout, w.layoutNow, 1<<i) {
			mark = on
		}
		scr.put(row, col, limit, a, open+mark+shut+" "+f.label)
	default:
		indent := ""
		if f.under != 0 {
			indent = "    "
		}
		scr.put(row, col, limit, Dialog, indent+f.label)
		if f.kind == hidden {
			value = strings.Repeat("*", utf8.RuneCountInString(value))
		} else {
			value = shown(value)
		}
		width := 22
		at := max(limit-width-4, col+len(indent+f.label)+1)
		width = min(width, limit-2-at)
		// A value longer than its field shows its end, where the cursor is.
		if over := utf8.RuneCountInString(value) - width; over > 0 {
			value = string([]rune(value)[over:])
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(value))
		scr.put(row, at, limit+2, a, "["+value+pad+"]")
	}
}

func anyMarked(lines string) bool { return strings.Contains(lines, marked) }

// shown gives text as a screen shows it: the characters that stand for a Token
// become dots.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= tokenRight && r < tokenEnd {
			return '•'
		}
		return r
	}, text)
}
