// Termsvg draws what a terminal shows as an SVG picture: it reads the text and
// the colours as tmux capture-pane -e -p prints them, and writes the picture to
// stdout. A line that begins with a form feed and a number of milliseconds ends
// a screen that was shown for so long; more than one screen makes a film.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"
)

// A cell of the picture, in pixels, and the edge around all.
const (
	cellWidth  = 8.4
	cellHeight = 18
	edge       = 12
)

const head = `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">
<title>%s</title>
<rect width="100%%" height="100%%" rx="6" fill="%s"/>
`

const (
	paper = "#11151c"
	ink   = "#d5dae1"
)

// colours are the sixteen of a terminal, as they are to be seen on paper.
var colours = [16]string{
	"#11151c", "#f0716b", "#7cc36a", "#e0b84d", "#6aa9f0", "#c586dd", "#58b9c4", "#d5dae1",
	"#7d8590", "#ff938d", "#9be088", "#f5d46f", "#8ec3ff", "#dfa9f2", "#7fd8e2", "#ffffff",
}

// cube are the steps of each colour in the 6×6×6 cube of the 256 colours.
var cube = [6]int{0, 95, 135, 175, 215, 255}

func palette(n int) string {
	switch {
	case n < 16:
		return colours[max(n, 0)]
	case n < 232:
		n -= 16
		return fmt.Sprintf("#%02x%02x%02x", cube[n/36], cube[n/6%6], cube[n%6])
	}
	v := 8 + 10*(min(n, 255)-232)
	return fmt.Sprintf("#%02x%02x%02x", v, v, v)
}

type pen struct {
	ink, paper                string // "" is the terminal's own
	bold, dim, under, swapped bool
}

// set applies the parameters of one SGR sequence.
func (p *pen) set(params string) {
	f := strings.FieldsFunc(params, func(r rune) bool { return r == ';' || r == ':' })
	if len(f) == 0 {
		f = []string{"0"}
	}
	num := func(i int) int {
		if i >= len(f) {
			return 0
		}
		n, _ := strconv.Atoi(f[i])
		return n
	}
	for i := 0; i < len(f); i++ {
		switch n := num(i); {
		case n == 0:
			*p = pen{}
		case n == 1:
			p.bold = true
		case n == 2:
			p.dim = true
		case n == 4:
			p.under = true
		case n == 7:
			p.swapped = true
		case n == 22:
			p.bold, p.dim = false, false
		case n == 24:
			p.under = false
		case n == 27:
			p.swapped = false
		case n >= 30 && n <= 37:
			p.ink = palette(n - 30)
		case n >= 90 && n <= 97:
			p.ink = palette(n - 90 + 8)
		case n == 39:
			p.ink = ""
		case n >= 40 && n <= 47:
			p.paper = palette(n - 40)
		case n >= 100 && n <= 107:
			p.paper = palette(n - 100 + 8)
		case n == 49:
			p.paper = ""
		case n == 38 || n == 48:
			c := palette(num(i + 2))
			skip := 2
			if num(i+1) == 2 {
				c, skip = fmt.Sprintf("#%02x%02x%02x", num(i+2), num(i+3), num(i+4)), 4
			}
			if n == 38 {
				p.ink = c
			} else {
				p.paper = c
			}
			i += skip
		}
	}
}

// seen are the colours that come of a pen.
func (p pen) seen() (front, back string) {
	front, back = p.ink, p.paper
	if front == "" {
		front = ink
	}
	if p.swapped {
		if back == "" {
			back = paper
		}
		front, back = back, front
	}
	return front, back
}

type run struct {
	pen
	at, cells int // columns
	text      string
}

type screen struct {
	lines [][]run
	ms    int
}

// line cuts one line of a screen into runs of one pen each. A pen lasts over
// the end of the line.
func line(p *pen, s string) (runs []run, width int) {
	flush := func(text string) {
		if n := len([]rune(text)); n > 0 {
			runs = append(runs, run{*p, width, n, text})
			width += n
		}
	}
	for s != "" {
		i := strings.IndexByte(s, '\x1b')
		if i < 0 {
			flush(s)
			break
		}
		flush(s[:i])
		s = s[i+1:]
		if !strings.HasPrefix(s, "[") { // a change of the character set, say
			s = s[min(len(s), 2):]
			continue
		}
		end := strings.IndexFunc(s[1:], func(r rune) bool { return r >= 0x40 && r <= 0x7e })
		if end < 0 {
			break
		}
		if s[1+end] == 'm' {
			p.set(s[1 : 1+end])
		}
		s = s[2+end:]
	}
	return runs, width
}

func read(in io.Reader) (film []screen, columns, rows int, err error) {
	sc := bufio.NewScanner(in)
	var now screen
	var p pen
	end := func() {
		for n := len(now.lines); n > 0 && blank(now.lines[n-1]); n-- {
			now.lines = now.lines[:n-1]
		}
		rows = max(rows, len(now.lines))
		film = append(film, now)
		now, p = screen{}, pen{}
	}
	for sc.Scan() {
		if ms, ok := strings.CutPrefix(sc.Text(), "\f"); ok {
			if now.ms, err = strconv.Atoi(ms); err != nil || now.ms <= 0 {
				return nil, 0, 0, fmt.Errorf("a screen that was shown for %q ms", ms)
			}
			end()
			continue
		}
		runs, width := line(&p, sc.Text())
		now.lines = append(now.lines, runs)
		columns = max(columns, width)
	}
	if len(now.lines) > 0 {
		now.ms = 1
		end()
	}
	if rows == 0 && err == nil {
		err = fmt.Errorf("there is nothing on the screen")
	}
	return film, columns, rows, errors.Join(sc.Err(), err)
}

func blank(runs []run) bool {
	for _, r := range runs {
		if _, back := r.seen(); strings.TrimSpace(r.text) != "" || back != "" {
			return false
		}
	}
	return true
}

// draw gives a line as elements of a picture whose top is at 0; "" for none.
func draw(runs []run) string {
	var w strings.Builder
	for _, r := range runs {
		front, back := r.seen()
		x, wide := edge+float64(r.at)*cellWidth, float64(r.cells)*cellWidth
		if back != "" {
			fmt.Fprintf(&w, "<rect x=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", x, wide, cellHeight, back)
		}
		// What is only spaces needs no letters; those at the ends are left out.
		text := strings.TrimLeft(r.text, " ")
		x += float64(r.cells-len([]rune(text))) * cellWidth
		text = strings.TrimRight(text, " ")
		if text == "" {
			continue
		}
		fmt.Fprintf(&w, "<text x=\"%.1f\" y=\"%d\" textLength=\"%.1f\" xml:space=\"preserve\"", x, cellHeight-4, float64(len([]rune(text)))*cellWidth)
		if front != ink {
			fmt.Fprintf(&w, " fill=\"%s\"", front)
		}
		if r.bold {
			fmt.Fprint(&w, ` font-weight="bold"`)
		}
		if r.dim {
			fmt.Fprint(&w, ` opacity="0.65"`)
		}
		if r.under {
			fmt.Fprint(&w, ` text-decoration="underline"`)
		}
		fmt.Fprintf(&w, ">%s</text>", html.EscapeString(text))
	}
	return w.String()
}

// svg writes the picture. A film is a strip of all screens that jumps from one
// to the next; who wants no motion sees the last.
func svg(w io.Writer, title string, film []screen, columns, rows int) {
	width, height := 2*edge+float64(columns)*cellWidth, 2*edge+float64(rows)*cellHeight
	fmt.Fprintf(w, head, width, height, width, height, html.EscapeString(title), paper)
	if len(film) > 1 {
		all, at := 0, 0
		for _, s := range film {
			all += s.ms
		}
		last := float64(1-len(film)) * height
		fmt.Fprintf(w, "<style>.film{transform:translateY(%.0fpx)}@media not (prefers-reduced-motion){.film{animation:film %dms step-end infinite}}@keyframes film{", last, all)
		for i, s := range film {
			fmt.Fprintf(w, "%.3f%%{transform:translateY(%.0fpx)}", 100*float64(at)/float64(all), float64(-i)*height)
			at += s.ms
		}
		fmt.Fprintf(w, "100%%{transform:translateY(%.0fpx)}}</style>\n", last)
	}
	// Most lines of a film stay as they are from one screen to the next: each is
	// drawn once.
	known := map[string]int{}
	var strip strings.Builder
	for i, s := range film {
		for y, runs := range s.lines {
			line := draw(runs)
			if line == "" {
				continue
			}
			n, ok := known[line]
			if !ok {
				n = len(known)
				known[line] = n
				fmt.Fprintf(w, "<defs><g id=\"l%d\" fill=\"%s\">%s</g></defs>\n", n, ink, line)
			}
			fmt.Fprintf(&strip, "<use href=\"#l%d\" y=\"%.0f\"/>\n", n, edge+float64(i)*height+float64(y)*cellHeight)
		}
	}
	fmt.Fprintf(w, "<g class=\"film\">\n%s</g>\n</svg>\n", strip.String())
}

func main() {
	title := flag.String("title", "", "what the picture shows, for those who do not see it")
	flag.Parse()
	film, columns, rows, err := read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "termsvg:", err)
		os.Exit(1)
	}
	out := bufio.NewWriter(os.Stdout)
	svg(out, *title, film, columns, rows)
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "termsvg:", err)
		os.Exit(1)
	}
}
