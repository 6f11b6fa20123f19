package recipes

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// source is a file and its lines, for errors.
type source struct {
	file  string
	lines []string
}

func newSource(file string, src []byte) *source {
	return &source{file, strings.Split(newlines.Replace(string(src)), "\n")}
}

// newlines turns the line ends that YAML knows into one.
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// place is where something stands in a file; both numbers count from 1, and
// characters, not bytes.
type place struct {
	src       *source
	line, col int
}

func (p place) errorf(hint, format string, args ...any) *Error {
	e := &Error{Line: max(p.line, 1), Col: max(p.col, 1), Msg: fmt.Sprintf(format, args...), Hint: hint}
	if p.src != nil {
		e.File = p.src.file
		if e.Line <= len(p.src.lines) {
			e.Text = p.src.lines[e.Line-1]
		}
	}
	return e
}

func (s *source) token(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{s, 1, 1}
	}
	p := place{s, max(t.Position.Line, 1), max(t.Position.Column, 1)}
	// The library counts the end of an empty file as a line of its own.
	p.line = min(p.line, len(s.lines))
	return p
}

// node gives where a node begins.
func (s *source) node(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 { // its own token is the first colon
			return s.node(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return s.node(n.Key)
	case *ast.LiteralNode:
		return s.token(n.Start)
	}
	return s.token(n.GetToken())
}

// finder looks for the parts of a scalar in the source, one after the other:
// quotes, escapes and line folds move them about, their order stays.
type finder struct {
	start place
	line  int // from 0
	col   int // characters, from 0
}

func (s *source) finder(n ast.Node) *finder {
	p := s.node(n)
	return &finder{p, p.line - 1, p.col - 1}
}

// find gives the place of the next part, or that of the scalar where the part
// is not to be found as it reads.
func (f *finder) find(part string) place {
	want := []rune(part)
	for line := f.line; line < len(f.start.src.lines) && line < f.line+64; line++ {
		r := []rune(f.start.src.lines[line])
		from := 0
		if line == f.line {
			from = min(f.col, len(r))
		}
		if at := strings.Index(string(r[from:]), part); at >= 0 {
			col := from + len([]rune(string(r[from:])[:at]))
			f.line, f.col = line, col+len(want)
			return place{f.start.src, line + 1, col + 1}
		}
	}
	return f.start
}

// scalar gives a scalar as it is written, so that 6.0 stays 6.0 and no stays
// no.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// kindOf says in plain words what a node is.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode, nil:
		return "empty"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	}
	return "something else"
}
