package main

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// The guides are Markdown for the forge, and text for the terminal. What they
// use of Markdown is all that is known here: headings, paragraphs, lists,
// tables, code by fences or by four blanks, and in a line `code`, **strong**,
// *emphasis*, links and pictures.

// heading is one heading of a guide.
type heading struct {
	level int
	text  string
	line  int // index of its line
}

// headings returns the headings outside of code.
func headings(src string) []heading {
	var out []heading
	fenced := false
	for i, line := range strings.Split(src, "\n") {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		hashes := len(line) - len(strings.TrimLeft(line, "#"))
		if fenced || hashes == 0 || !strings.HasPrefix(line[hashes:], " ") {
			continue
		}
		out = append(out, heading{hashes, strings.TrimSpace(line[hashes:]), i})
	}
	return out
}

// section returns the lines from heading number n to the next one that is not
// below it.
func section(src string, all []heading, n int) string {
	lines := strings.Split(src, "\n")
	end := len(lines)
	for _, h := range all[n+1:] {
		if h.level <= all[n].level {
			end = h.line
			break
		}
	}
	return strings.Join(lines[all[n].line:end], "\n")
}

// sheet lays Markdown out on a page of so many columns.
type sheet struct {
	p     *page
	width int
	link  func(target string) string // what to say of a link's target; "" for nothing
	any   bool                       // something was written
}

var (
	bulletLine = regexp.MustCompile(`^(\s*)([*-]|\d+\.)\s+(.*)$`)
	ruleLine   = regexp.MustCompile(`^\|[\s:|-]+\|$`)
	pictures   = regexp.MustCompile(`!\[[^\]]*\]\([^)]*\)`)
	inlineMark = regexp.MustCompile("`[^`]+`|\\*\\*[^*]+\\*\\*|\\*[^* ][^*]*\\*|\\[[^\\]]+\\]\\([^)]+\\)")
)

// indent is how far text stands in from its heading, and code from its text.
const indent = 2

func (s *sheet) write(src string) {
	lines := strings.Split(strings.TrimRight(src, "\n"), "\n")
	for i := 0; i < len(lines); {
		line := lines[i]
		until := func(start int, more func(string) bool) (block []string) {
			for i = start; i < len(lines) && more(lines[i]); i++ {
				block = append(block, lines[i])
			}
			return block
		}
		switch {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "<"):
			i++
		case strings.HasPrefix(line, "```"):
			code := until(i+1, func(l string) bool { return !strings.HasPrefix(l, "```") })
			i++ // the closing fence
			s.code(code)
		case strings.HasPrefix(line, "    "):
			code := until(i, func(l string) bool { return strings.HasPrefix(l, "    ") || strings.TrimSpace(l) == "" })
			for n := range code {
				code[n] = strings.TrimPrefix(code[n], "    ")
			}
			s.code(code)
		case strings.HasPrefix(line, "#"):
			s.gap()
			for _, l := range wrap(plainText(strings.TrimSpace(strings.TrimLeft(line, "#"))), s.width) {
				s.p.printf("%s\n", s.p.paint(bold, l))
			}
			i++
		case strings.HasPrefix(line, "|"):
			s.table(until(i, func(l string) bool { return strings.HasPrefix(l, "|") }))
		case bulletLine.MatchString(line):
			s.list(until(i, func(l string) bool {
				return bulletLine.MatchString(l) || strings.HasPrefix(l, " ") && !strings.HasPrefix(l, "        ")
			}))
		default:
			text := strings.Join(until(i, func(l string) bool {
				return strings.TrimSpace(l) != "" && !strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "|") &&
					!strings.HasPrefix(l, "```") && !bulletLine.MatchString(l)
			}), " ")
			if text = strings.TrimSpace(pictures.ReplaceAllString(text, "")); text != "" {
				s.gap()
				s.lines("", flow(s.inline(text), s.width-indent))
			}
		}
	}
}

func (s *sheet) gap() {
	if s.any {
		s.p.printf("\n")
	}
	s.any = true
}

func (s *sheet) lines(lead string, lines []string) {
	for _, l := range lines {
		s.p.WriteString(strings.TrimRight(strings.Repeat(" ", indent)+lead+l, " ") + "\n")
	}
}

func (s *sheet) code(lines []string) {
	s.gap()
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	s.lines(strings.Repeat(" ", indent), lines) // as it is: it may be pasted
}

func (s *sheet) list(lines []string) {
	type item struct{ lead, text string }
	var items []item
	for _, l := range lines {
		if m := bulletLine.FindStringSubmatch(l); m != nil {
			items = append(items, item{m[1] + m[2] + " ", m[3]})
		} else {
			last := &items[len(items)-1]
			last.text += " " + strings.TrimSpace(l)
		}
	}
	s.gap()
	for _, it := range items {
		lead := strings.Replace(it.lead, "* ", "- ", 1)
		for i, l := range flow(s.inline(it.text), s.width-indent-len(lead)) {
			if i > 0 {
				lead = strings.Repeat(" ", len(lead))
			}
			s.lines(lead, []string{l})
		}
	}
}

// minCell is the narrowest column that text is still readable in.
const minCell = 14

func (s *sheet) table(lines []string) {
	var rows [][]string
	columns := 0
	for _, l := range lines {
		if ruleLine.MatchString(l) {
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(strings.ReplaceAll(l, `\|`, "\x00"), "|"), "|") {
			cells = append(cells, s.inline(strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|"))))
		}
		rows, columns = append(rows, cells), max(columns, len(cells))
	}
	if len(rows) < 2 {
		return
	}
	s.gap()
	widths, room := fitColumns(rows, columns, s.width-indent-2*(columns-1)), 0
	if widths == nil { // then code may be broken too
		for _, r := range rows {
			for i := range r {
				r[i] = strings.ReplaceAll(r[i], hardSpace, " ")
			}
		}
		if widths = fitColumns(rows, columns, s.width-indent-2*(columns-1)); widths == nil {
			s.records(rows)
			return
		}
	}
	wrapped := false
	for n, r := range rows {
		height, cells := 1, make([][]string, columns)
		for i := range columns {
			if i < len(r) {
				cells[i] = flow(r[i], widths[i])
			}
			height = max(height, len(cells[i]))
		}
		if n > 1 && (wrapped || height > 1) {
			s.p.printf("\n")
		}
		wrapped = height > 1
		for y := range height {
			var line strings.Builder
			for i := range columns {
				text := ""
				if y < len(cells[i]) {
					text = cells[i][y]
				}
				room = widths[i] - visible(text) + 2
				if n == 0 {
					text = s.p.paint(dim, text)
				}
				line.WriteString(text + strings.Repeat(" ", room))
			}
			s.lines("", []string{line.String()})
		}
	}
}

// fitColumns narrows the widest columns until all fit into room, and none below
// its longest word. It returns nil where that is not enough.
func fitColumns(rows [][]string, columns, room int) []int {
	widths, least := make([]int, columns), make([]int, columns)
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], visible(c))
			for _, w := range strings.Fields(c) {
				least[i] = max(least[i], visible(w))
			}
		}
	}
	for i := range least {
		least[i] = max(least[i], min(widths[i], minCell))
	}
	for {
		sum, widest := 0, -1
		for i, w := range widths {
			sum += w
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		switch {
		case sum <= room:
			return widths
		case widest < 0:
			return nil
		}
		widths[widest]--
	}
}

// records writes a table that is too wide as one paragraph for each row.
func (s *sheet) records(rows [][]string) {
	for n, r := range rows[1:] {
		if n > 0 {
			s.p.printf("\n")
		}
		for i, c := range r {
			if c == "" {
				continue
			}
			lead := strings.Repeat(" ", indent)
			if i == 0 {
				lead = ""
			} else if i < len(rows[0]) && rows[0][i] != "" {
				c = rows[0][i] + ": " + c
			}
			s.lines(lead, flow(c, s.width-indent-len(lead)))
		}
	}
}

// flow wraps what inline has painted.
func flow(text string, width int) []string {
	out := wrap(text, width)
	for i, l := range out {
		out[i] = strings.ReplaceAll(l, hardSpace, " ")
	}
	return out
}

// hardSpace stands for a blank inside of code, at which no line ends.
const hardSpace = "\x1f"

// inline takes the marks out of a line and paints what they mark. Code that is
// not long is kept on one line: a command in two halves is hard to read.
func (s *sheet) inline(text string) string {
	return inlineMark.ReplaceAllStringFunc(text, func(m string) string {
		switch {
		case m[0] == '`':
			m = m[1 : len(m)-1]
			if utf8.RuneCountInString(m) <= 36 {
				return strings.ReplaceAll(s.words(m), " ", hardSpace)
			}
			return s.words(m)
		case strings.HasPrefix(m, "**"):
			return s.words(strings.ReplaceAll(m[2:len(m)-2], "`", ""))
		case m[0] == '*':
			return m[1 : len(m)-1]
		}
		label, target, _ := strings.Cut(m[1:len(m)-1], "](")
		label = s.inline(label)
		say := s.link(target)
		if name, ok := strings.CutPrefix(say, "labctl help "); ok && name == label {
			return strings.ReplaceAll(s.words(say), " ", hardSpace)
		}
		if say != "" {
			return label + " (" + strings.ReplaceAll(say, " ", hardSpace) + ")"
		}
		return label
	})
}

// words paints word by word, so that a line may end between them.
func (s *sheet) words(text string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		words[i] = s.p.paint(bold, w)
	}
	return strings.Join(words, " ")
}

// plainText is a line without its marks and without paint.
func plainText(text string) string {
	s := &sheet{p: &page{}, link: func(string) string { return "" }}
	return strings.ReplaceAll(s.inline(text), hardSpace, " ")
}

// visible counts the characters that take room on a terminal.
func visible(text string) int {
	n := 0
	for i := 0; i < len(text); {
		if k := ownStyle(text[i:]); k > 0 {
			i += k
			continue
		}
		_, k := utf8.DecodeRuneInString(text[i:])
		n, i = n+1, i+k
	}
	return n
}
