package main

import (
	"fmt"
	"strings"
	"time"
)

// progressBar says how far long work is, how fast, and how long it will take.
type progressBar struct {
	what        string
	done, total int64
	took        time.Duration
	unit        func(int64) string
}

const barWidth = 24

// text is one line of at most width characters, 0 being any number: the bar is
// made shorter first, then what one can do without is left out.
func (b *progressBar) text(width int) string {
	part := float64(b.done) / float64(max(b.total, 1))
	parts := []string{fmt.Sprintf("%s of %s", b.unit(b.done), b.unit(b.total))}
	if rate := float64(b.done) / b.took.Seconds(); b.took >= 500*time.Millisecond && b.done > 0 {
		parts = append(parts, b.unit(int64(rate))+"/s")
		if b.done < b.total {
			parts = append(parts, fmt.Sprintf("%v left", time.Duration(float64(b.total-b.done)/rate*float64(time.Second)).Round(time.Second)))
		}
	}
	line := func(bar int) string {
		s := b.what
		if bar > 0 {
			full := int(part * float64(bar))
			s += fmt.Sprintf(" [%s%s]", strings.Repeat("#", full), strings.Repeat("-", bar-full))
		}
		return s + fmt.Sprintf(" %3.0f%%  %s", 100*part, strings.Join(parts, "  "))
	}
	if width <= 0 {
		return line(barWidth)
	}
	for bar := barWidth; bar >= 8; bar-- {
		if s := line(bar); len([]rune(s)) <= width {
			return s
		}
	}
	for ; len(parts) > 1; parts = append(parts[:0], parts[1:]...) {
		if s := line(0); len([]rune(s)) <= width {
			return s
		}
	}
	return shortened(line(0), width)
}

// liveLine is the last line of a terminal, written over and over.
type liveLine struct {
	a    *app
	open bool // the cursor stands behind it
}

// draw shows a bar where there is a terminal that can; else it returns false.
func (l *liveLine) draw(b *progressBar) bool {
	w := l.a.columns(l.a.stderr)
	if w == 0 || !l.a.sequences(l.a.stderr) {
		return false
	}
	l.a.stderrLock.Lock()
	defer l.a.stderrLock.Unlock()
	// Not up to the last cell: some terminals go to the next line then.
	fmt.Fprintf(l.a.stderr, "\r%s\x1b[K", b.text(w-1))
	l.open = true
	return true
}

// end finishes it.
func (l *liveLine) end() {
	if l.open {
		l.open = false
		l.a.stderrLock.Lock()
		fmt.Fprintln(l.a.stderr)
		l.a.stderrLock.Unlock()
	}
}
