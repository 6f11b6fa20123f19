package main

// Full-screen drawing, by hand: a grid of cells, written line by line where it
// changed. A toolkit would bring its own reading of keys, in which two ESCs
// that arrive together are one ALT+ESC, and ESC is what a recipe begins with;
// and the one at hand asks the terminal for its colours whenever a program
// starts that links it, which takes five seconds on a line that does not answer
// and swallows what was typed meanwhile.

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"

	"github.com/labctl/labctl/recipes/dcui"
)

// look is how a cell is drawn. The zero look is the terminal's own.
type look struct {
	fg, bg  *dcui.Colour
	weight  style // bold, dim, or one of the five colours of plain lines
	reverse bool
}

var (
	lookBold  = look{weight: bold}
	lookDim   = look{weight: dim}
	lookGood  = look{weight: green}
	lookBad   = look{weight: red}
	lookWatch = look{weight: yellow}
)

type cell struct {
	r rune
	look
}

// canvas is a picture in the making. What is put outside of it is cut off.
type canvas struct {
	w, h  int
	cells []cell
}

func newCanvas(w, h int) *canvas {
	c := &canvas{w: w, h: h, cells: make([]cell, max(w*h, 0))}
	for i := range c.cells {
		c.cells[i].r = ' '
	}
	return c
}

func (c *canvas) set(x, y int, r rune, l look) {
	if x >= 0 && x < c.w && y >= 0 && y < c.h {
		c.cells[y*c.w+x] = cell{r, l}
	}
}

// put writes text in one row, at most width cells of it, and returns the column
// after it. Control characters in it do not reach the terminal.
func (c *canvas) put(x, y, width int, l look, text string) int {
	for _, r := range text {
		if width <= 0 {
			break
		}
		if unicode.IsControl(r) {
			r = ' '
		}
		c.set(x, y, r, l)
		x++
		width--
	}
	return x
}

// blit copies rows of a console's screen. Rows that hold nothing are left out
// while there are more than fit, from the foot up; what then still does not fit
// is cut off. The return values say how much of each.
func (c *canvas) blit(x, y, w, h int, s *dcui.Screen) (leftOut, cut int) {
	rows := make([]int, 0, dcui.Rows)
	for r := range dcui.Rows {
		rows = append(rows, r)
	}
	for r := dcui.Rows - 1; r >= 0 && len(rows) > h; r-- {
		if blank(s, r) {
			rows = append(rows[:r], rows[r+1:]...)
			leftOut++
		}
	}
	cut = max(0, len(rows)-h)
	for i, r := range rows[:len(rows)-cut] {
		for col := range min(w, dcui.Columns) {
			cl := s[r][col]
			c.set(x+col, y+i, cl.Rune, consoleLook(cl.Attr))
		}
	}
	return leftOut, cut
}

func blank(s *dcui.Screen, row int) bool {
	for _, cl := range s[row] {
		if cl.Rune != ' ' {
			return false
		}
	}
	return true
}

// consoleLook carries both the colours of a role and what stands for them
// where there are none.
func consoleLook(a dcui.Attr) look {
	fg, bg := a.Colours()
	l := look{fg: &fg, bg: &bg}
	switch a &^ dcui.HighContrast {
	case dcui.Chosen, dcui.FieldFocus, dcui.DialogTitle:
		l.reverse = true
	case dcui.Title:
		l.weight = bold
	case dcui.Dim, dcui.Version:
		l.weight = dim
	}
	return l
}

// text gives the picture without looks, for tests.
func (c *canvas) text() string {
	var b strings.Builder
	for y := range c.h {
		line := make([]rune, c.w)
		for x := range line {
			line[x] = c.cells[y*c.w+x].r
		}
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return b.String()
}

// palette is what a terminal can show.
type palette uint8

const (
	monochrome palette = iota // weights and reverse only
	ansi16
	ansi256
	trueColour
)

// ability is what the drawing may use.
type ability struct {
	palette palette
	ascii   bool // signs beyond those of a text console's font are spelled in ASCII
	boxes   bool // line-drawing characters work
}

// ability reads the terminal's kind from the variables that terminals set.
func (a *app) ability(stream any) ability {
	kind := a.get("TERM")
	ab := ability{boxes: true}
	switch {
	case kind == "linux", kind == "linux-16color", kind == "":
		ab.ascii = true
	case strings.HasPrefix(kind, "vt"), strings.HasPrefix(kind, "ansi"):
		ab.ascii, ab.boxes = true, false
	}
	if !a.utf8() {
		ab.ascii, ab.boxes = true, false
	}
	switch {
	case !a.colour(stream):
	case a.get("COLORTERM") == "truecolor", a.get("COLORTERM") == "24bit":
		ab.palette = trueColour
	case strings.Contains(kind, "256color"):
		ab.palette = ansi256
	default:
		ab.palette = ansi16
	}
	return ab
}

// utf8 reports whether the locale's characters are UTF-8, as setlocale(3) finds
// it: the first of three variables that is set, and POSIX where none is. Windows
// and macOS have no such variables in a fresh terminal, and show UTF-8.
func (a *app) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(a.get(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return runtime.GOOS == "windows" || runtime.GOOS == "darwin"
}

// spelled gives what stands for signs that a text console's font may lack.
var spelled = map[rune]rune{'✓': '+', '✗': '!', '▸': '>', '×': 'x', '•': '*', '·': '-', '…': '~', '–': '-', '→': '>', '←': '<', '█': '#', '░': '.'}

var unboxed = map[rune]rune{'│': '|', '─': '-', '└': '+', '┘': '+', '┌': '+', '┐': '+', '├': '+', '┤': '+', '┬': '+', '┴': '+', '┼': '+'}

func (ab ability) rune(r rune) rune {
	if ab.ascii {
		if s, ok := spelled[r]; ok {
			return s
		}
	}
	if !ab.boxes {
		if s, ok := unboxed[r]; ok {
			return s
		}
	}
	return r
}

// sgr gives the parameters of the sequence that selects a look (ECMA-48,
// 8.3.117), the reset before it included.
func (ab ability) sgr(l look) string {
	out := "0"
	if l.fg != nil && ab.palette != monochrome {
		return out + ab.sgrColour(*l.fg, 30) + ab.sgrColour(*l.bg, 40)
	}
	if l.reverse {
		out += ";7"
	}
	switch l.weight {
	case bold, dim:
		out += ";" + string(l.weight)
	case red, green, yellow:
		if ab.palette != monochrome {
			out += ";" + string(l.weight)
		}
	}
	return out
}

func (ab ability) sgrColour(c dcui.Colour, base int) string {
	switch {
	case ab.palette == trueColour:
		return fmt.Sprintf(";%d;2;%d;%d;%d", base+8, c.R, c.G, c.B)
	case ab.palette == ansi256:
		return fmt.Sprintf(";%d;5;%d", base+8, nearest256(c))
	case c.ANSI >= 8:
		return ";" + strconv.Itoa(base+60+int(c.ANSI)-8)
	}
	return ";" + strconv.Itoa(base+int(c.ANSI))
}

// nearest256 gives the nearest entry of xterm's cube of 6×6×6 colours or of its
// 24 greys.
func nearest256(c dcui.Colour) int {
	levels := [6]int{0, 95, 135, 175, 215, 255}
	near := func(v uint8) int {
		best := 0
		for i, l := range levels {
			if abs(l-int(v)) < abs(levels[best]-int(v)) {
				best = i
			}
		}
		return best
	}
	r, g, b := near(c.R), near(c.G), near(c.B)
	off := abs(levels[r]-int(c.R)) + abs(levels[g]-int(c.G)) + abs(levels[b]-int(c.B))
	mean := (int(c.R) + int(c.G) + int(c.B)) / 3
	grey := min(max((mean-8+5)/10, 0), 23)
	level := 8 + 10*grey
	if abs(level-int(c.R))+abs(level-int(c.G))+abs(level-int(c.B)) < off {
		return 232 + grey
	}
	return 16 + 36*r + 6*g + b
}

func abs(n int) int { return max(n, -n) }

// line gives one row with its looks.
func (c *canvas) line(y int, ab ability) string {
	var b strings.Builder
	now := "0"
	row := c.cells[y*c.w : (y+1)*c.w]
	last := len(row)
	for last > 0 && row[last-1].r == ' ' && ab.sgr(row[last-1].look) == "0" {
		last--
	}
	for _, cl := range row[:last] {
		if s := ab.sgr(cl.look); s != now {
			b.WriteString("\x1b[" + s + "m")
			now = s
		}
		b.WriteRune(ab.rune(cl.r))
	}
	if now != "0" {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// lines gives the rows with their looks, blank ones at the end left out.
func (c *canvas) lines(ab ability) []string {
	var out []string
	for y := range c.h {
		out = append(out, c.line(y, ab))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// live is a terminal that shows canvases. While it does, lines for stderr are
// kept and come out when it ends, so that they do not run into the picture; the
// latest one can be shown in it.
type live struct {
	a    *app
	out  io.Writer
	file *os.File // of the terminal, for its size
	ability
	lastW int
	last  []string

	kept  keptLines
	below io.Writer // the stderr that kept stands in for
}

// keptLines collects lines while a picture is on the terminal.
type keptLines struct {
	mu    sync.Mutex
	whole strings.Builder
	final io.Writer // after the end, where lines go
}

func (k *keptLines) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.final != nil {
		return k.final.Write(b)
	}
	return k.whole.Write(b)
}

// latest is the last line said, without its prefix.
func (k *keptLines) latest() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, line := cutLast(strings.TrimRight(k.whole.String(), "\n"), "\n")
	return line
}

func cutLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return "", s
}

// startLive takes the terminal over: that on stdout, which with -o json is left
// to the result, else that on stderr. Where neither is one, or it cannot place
// the cursor, ok is false.
func (a *app) startLive() (l *live, ok bool) {
	if a.get("TERM") == "dumb" {
		return nil, false
	}
	streams := []io.Writer{a.stdout, a.stderr}
	if a.json() {
		streams = []io.Writer{a.stderr}
	}
	for _, s := range streams {
		f, isFile := s.(*os.File)
		if isFile && a.sequences(s) {
			return a.liveOn(f), true
		}
	}
	return nil, false
}

func (a *app) liveOn(f *os.File) *live {
	l := &live{a: a, out: f, file: f, ability: a.ability(f)}
	l.start()
	return l
}

func (l *live) start() {
	end := l.end
	l.a.restore.Store(&end)
	// Alternate screen (xterm 1049, unknown to a text console, so it is cleared
	// too), cursor off.
	io.WriteString(l.out, "\x1b[?1049h\x1b[?25l\x1b[0m\x1b[2J\x1b[H")
	l.a.stderrLock.Lock()
	defer l.a.stderrLock.Unlock()
	l.below = l.a.stderr
	l.a.stderr = &l.kept
}

// end gives the terminal back and says what was kept. It may be called twice.
func (l *live) end() {
	l.a.stderrLock.Lock()
	defer l.a.stderrLock.Unlock()
	if l.below == nil {
		return
	}
	io.WriteString(l.out, "\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l")
	l.a.stderr = l.below
	l.kept.mu.Lock()
	io.WriteString(l.below, l.kept.whole.String())
	l.kept.final = l.below
	l.kept.mu.Unlock()
	l.below = nil
	l.a.restore.Store(nil)
}

// size is that of the terminal, in cells.
func (l *live) size() (w, h int) { return terminalSize(l.file) }

func terminalSize(f *os.File) (w, h int) {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 80, 24 // a serial line does not tell
	}
	return w, h
}

// draw shows a canvas that has the terminal's size.
func (l *live) draw(c *canvas) {
	if c.w != l.lastW || c.h != len(l.last) {
		l.lastW, l.last = c.w, make([]string, c.h)
		io.WriteString(l.out, "\x1b[0m\x1b[2J")
	}
	var b strings.Builder
	for y := range c.h {
		s := c.line(y, l.ability)
		if s == l.last[y] {
			continue
		}
		l.last[y] = s
		// The line is erased first, not last: after a full row some terminals
		// stand on its last cell and would erase that.
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[2K%s", y+1, s)
	}
	if b.Len() > 0 {
		io.WriteString(l.out, b.String())
	}
}

// redraw makes the next draw whole.
func (l *live) redraw() { l.lastW = 0 }
