package main

// The terminal, in five lines. Results go to stdout, and with -o json nothing
// but JSON does. All other lines go to stderr as "labctl: …", advice as
// "labctl: hint: …": no capitals, no full stop, none over 400 characters.
// Questions and passwords use /dev/tty, and only where stdin is a terminal too:
// without one nothing is ever asked, the error names the flag to give instead.
// Colour repeats what the words say. Only live progress goes without a prefix.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/labctl/labctl/esxi"
)

// maxLine is the longest line on stderr, in characters.
const maxLine = 400

// say tells the user something on stderr, in one line where it fits.
func (a *app) say(format string, args ...any) {
	a.stderrLines("labctl: ", fmt.Sprintf(format, args...))
}

// hint gives advice, apart from the fact it belongs to.
func (a *app) hint(format string, args ...any) {
	a.hinted = fmt.Sprintf(format, args...)
	a.stderrLines("labctl: hint: ", a.hinted)
}

// warn is for what the command did not stop at.
func (a *app) warn(format string, args ...any) {
	a.stderrLines("labctl: "+a.errStyle(yellow, "warning:")+" ", fmt.Sprintf(format, args...))
}

// progress writes one live line without prefix to stderr; with -o json it is
// left out, as the events say the same.
func (a *app) progress(format string, args ...any) {
	if !a.json() {
		a.stderrLines("", fmt.Sprintf(format, args...))
	}
}

func (a *app) stderrLines(prefix, text string) {
	a.stderrLock.Lock()
	defer a.stderrLock.Unlock()
	if a.terminal(a.stderr) {
		if ab := a.ability(a.stderr); ab.ascii {
			text = strings.Map(ab.rune, text)
		}
	}
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		for _, part := range fold(printable(line), maxLine-utf8.RuneCountInString(prefix)-1) {
			fmt.Fprintln(a.stderr, prefix+part)
		}
		if i == 0 && prefix != "" {
			prefix = "  "
		}
	}
}

// fold breaks a line that is longer than limit characters, at a space where
// there is one in its second half.
func fold(line string, limit int) []string {
	var out []string
	for r := []rune(line); ; {
		if len(r) <= limit {
			return append(out, string(r))
		}
		cut := limit
		for i := limit; i > limit/2; i-- {
			if r[i] == ' ' {
				cut = i
				break
			}
		}
		out = append(out, string(r[:cut]))
		r = []rune("  " + strings.TrimLeft(string(r[cut:]), " "))
	}
}

// printable replaces control characters: names and messages come from other
// machines and must not steer this terminal. The tool's own colours pass.
func printable(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && (!unicode.IsControl(r) || r == '\t')
	}
	if clean {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		if n := ownStyle(s[i:]); n > 0 {
			out.WriteString(s[i : i+n])
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.IsControl(r) && r != '\t' {
			r = '�'
		}
		out.WriteRune(r)
		i += n
	}
	return out.String()
}

// style is an SGR parameter. Six suffice: good, bad, watch out, and three
// weights of text.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

const styleEnd = "\x1b[0m"

// ownStyle returns the length of a style sequence at the start of s, or 0.
func ownStyle(s string) int {
	for _, seq := range []string{styleEnd, "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"} {
		if strings.HasPrefix(s, seq) {
			return len(seq)
		}
	}
	return 0
}

func paint(colour bool, st style, s string) string {
	if !colour || st == plain || s == "" {
		return s
	}
	return "\x1b[" + string(st) + "m" + s + styleEnd
}

// errStyle colours text that goes to stderr.
func (a *app) errStyle(st style, s string) string { return paint(a.colour(a.stderr), st, s) }

// colour decides for one stream: --color (or LABCTL_COLOR) first, then
// NO_COLOR (https://no-color.org) and TERM=dumb, then whether it is a terminal.
func (a *app) colour(stream any) bool {
	switch a.set.Color {
	case "always":
		return true
	case "never":
		return false
	}
	return a.get("NO_COLOR") == "" && a.sequences(stream)
}

// sequences reports whether a stream is a terminal that takes escape sequences.
func (a *app) sequences(stream any) bool {
	if a.get("TERM") == "dumb" || !a.terminal(stream) {
		return false
	}
	f, ok := stream.(*os.File)
	return !ok || steer(f)
}

// columns is the width of a terminal in cells, 0 for anything else.
func (a *app) columns(stream any) int {
	f, ok := stream.(*os.File)
	if !ok || !a.terminal(stream) {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return max(w, 0)
}

func (a *app) json() bool { return a.set.Output == "json" }

// page is text on its way to stdout, or to stderr.
type page struct {
	bytes.Buffer
	ability
	colour bool
	width  int  // of the terminal, in cells; 0 where there is none, and lines are as long as they are
	draws  bool // pictures, rather than the same in words
}

// page is an empty one for a stream.
func (a *app) page(stream any) *page {
	width := a.columns(stream)
	return &page{colour: a.colour(stream), ability: a.ability(stream), width: width, draws: width > 0 && a.get("TERM") != "dumb"}
}

func (p *page) paint(st style, s string) string { return paint(p.colour, st, s) }

// text is what is written: for a terminal that cannot show signs beyond ASCII
// they are spelled.
func (p *page) text() string {
	if p.width == 0 || !p.ascii {
		return p.String()
	}
	return strings.Map(p.rune, p.String())
}

// printf formats onto the page. The format is the program's own, its text
// arguments may come from anywhere.
func (p *page) printf(format string, args ...any) {
	for i, v := range args {
		if s, ok := v.(string); ok {
			args[i] = printable(s)
		}
	}
	fmt.Fprintf(p, format, args...)
}

// flow writes a line of text, broken between words where a terminal ends. lead
// stands before it and may be painted, width is how much of it one sees; hang is
// the indent of the lines that follow.
func (p *page) flow(lead string, width, hang int, text string) {
	p.WriteString(lead)
	at := width
	for i, word := range strings.Fields(printable(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case i > 0 && p.width > 0 && at+1+n > p.width:
			p.WriteString("\n" + strings.Repeat(" ", hang))
			at = hang
		case i > 0:
			p.WriteByte(' ')
			at++
		}
		p.WriteString(word)
		at += n
	}
	p.WriteByte('\n')
}

// table is aligned text: a header, then rows that may each have a style.
type table struct {
	header []string
	rows   [][]string
	styles []style
}

func (t *table) row(st style, cells ...string) {
	t.rows, t.styles = append(t.rows, cells), append(t.styles, st)
}

// write aligns the cells and colours whole lines. Where the terminal is narrower
// than the table, cells are broken into lines; where that leaves too little of a
// column, each row becomes a paragraph.
func (t *table) write(p *page) {
	rows, styles := slices.Clone(t.rows), t.styles
	if len(t.header) > 0 {
		rows, styles = append([][]string{t.header}, rows...), append([]style{dim}, styles...)
	}
	columns := 0
	for i := range rows {
		cells := make([]string, len(rows[i]))
		for j, c := range rows[i] {
			cells[j] = strings.ReplaceAll(printable(c), "\t", " ")
		}
		rows[i], columns = cells, max(columns, len(cells))
	}
	room := math.MaxInt
	if p.width > 0 {
		room = p.width - tableGap*(columns-1)
	}
	widths := fitColumns(rows, columns, room)
	if widths == nil {
		widths = lastNarrowed(rows, columns, room)
	}
	if widths == nil {
		t.records(p, rows, styles)
		return
	}
	for i, cells := range rows {
		height, parts := 1, make([][]string, columns)
		for j, c := range cells {
			if visible(c) <= widths[j] {
				parts[j] = []string{c}
			} else {
				parts[j] = hang(c, widths[j])
			}
			height = max(height, len(parts[j]))
		}
		for y := range height {
			var line strings.Builder
			for j, w := range widths {
				text := ""
				if y < len(parts[j]) {
					text = parts[j][y]
				}
				line.WriteString(text + strings.Repeat(" ", max(w-visible(text), 0)+tableGap))
			}
			p.WriteString(p.paint(styles[i], strings.TrimRight(line.String(), " ")) + "\n")
		}
	}
}

// tableGap is the room between two columns.
const tableGap = 2

// lastNarrowed leaves all columns as they are but the last, which gets the rest of
// the room; words that are longer are broken. It is nil where too little is left.
func lastNarrowed(rows [][]string, columns, room int) []int {
	const least = 20
	widths := make([]int, columns)
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], visible(c))
		}
	}
	for _, w := range widths[:columns-1] {
		room -= w
	}
	if room < least {
		return nil
	}
	widths[columns-1] = room
	return widths
}

// hang wraps a cell under its own indent, and breaks words that are longer.
func hang(text string, width int) []string {
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	width = max(width-len(lead), 1)
	var parts []string
	for word := range strings.FieldsSeq(text) {
		for r := []rune(word); ; r = r[width:] {
			if len(r) <= width {
				parts = append(parts, string(r))
				break
			}
			parts = append(parts, string(r[:width]))
		}
	}
	out := wrap(strings.Join(parts, " "), width)
	for i := range out {
		out[i] = lead + out[i]
	}
	return out
}

// records writes rows as paragraphs, under the names of the columns.
func (t *table) records(p *page, rows [][]string, styles []style) {
	for i, cells := range rows {
		if i == 0 && len(t.header) > 0 {
			continue
		}
		for j, c := range cells {
			lead := ""
			if j > 0 {
				lead = "    "
				if j < len(t.header) && t.header[j] != "" {
					c = strings.ToLower(strings.TrimSpace(t.header[j])) + ": " + c
				}
			}
			for _, l := range hang(lead+c, p.width) {
				p.WriteString(p.paint(styles[i], l) + "\n")
			}
		}
	}
}

// result is what the command was run for: v as one JSON object with -o json,
// else what text writes. After events the object stays on one line, as the
// last of the stream.
func (a *app) result(v any, text func(*page)) error {
	if a.json() {
		return a.encode(v, !a.streamed)
	}
	p := a.page(a.stdout)
	text(p)
	_, err := io.WriteString(a.stdout, p.text())
	return err
}

// event is one line of a stream with -o json, and nothing otherwise.
func (a *app) event(v any) error {
	if !a.json() {
		return nil
	}
	a.streamed = true
	return a.encode(v, false)
}

func (a *app) encode(v any, indent bool) error {
	a.stdoutLock.Lock()
	defer a.stdoutLock.Unlock()
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// interactive reports whether questions may be asked.
func (a *app) interactive() bool {
	if !a.terminal(a.stdin) {
		return false
	}
	f, err := a.tty()
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// ask puts a question and returns the answer without surrounding space. Where
// there is no terminal it fails with exit 2, and instead says what to give.
func (a *app) ask(ctx context.Context, question, instead string) (string, error) {
	return a.prompt(ctx, question+" ", instead, func(f *os.File) (string, error) {
		line, err := readLine(f)
		return strings.TrimSpace(line), err
	})
}

// askSecret reads without echo. An empty answer is an answer.
func (a *app) askSecret(ctx context.Context, question, instead string) (esxi.Secret, error) {
	s, err := a.prompt(ctx, question+" ", instead, func(f *os.File) (string, error) {
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(ttyOutput(f))
		return string(b), err
	})
	return esxi.NewSecret(s), err
}

// confirm asks for y or n; --yes answers it, anything but yes is no.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	if a.yes {
		return true, nil
	}
	s, err := a.ask(ctx, question+" [y/N]", "--yes")
	s = strings.ToLower(s)
	return s == "y" || s == "yes", err
}

// prompt runs read on the terminal. When ctx ends first, it gives the terminal
// back with echo on and leaves the reader to the end of the program.
func (a *app) prompt(ctx context.Context, question, instead string, read func(*os.File) (string, error)) (string, error) {
	if !a.interactive() {
		question = strings.TrimSuffix(strings.TrimSpace(question), " [y/N]")
		return "", usagef("no terminal to ask on (%s): give %s", strings.TrimRight(question, ":?"), instead)
	}
	f, err := a.tty()
	if err != nil {
		return "", fmt.Errorf("open the terminal: %w", err)
	}
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("read the terminal's state: %w", err)
	}
	fmt.Fprint(ttyOutput(f), printable(question))
	a.asking.Store(true)
	defer a.asking.Store(false)
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		s, err := read(f)
		got <- answer{s, err}
	}()
	select {
	case r := <-got:
		f.Close()
		if r.err != nil {
			return "", fmt.Errorf("read the answer: %w", r.err)
		}
		return r.text, nil
	case <-ctx.Done():
		term.Restore(int(f.Fd()), before)
		return "", ctx.Err()
	}
}

// readLine reads up to the newline and not a byte more: what follows belongs
// to the next question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[:n]...)
		if err != nil {
			return "", err
		}
	}
}
