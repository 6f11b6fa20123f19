package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func picture(t *testing.T, in string) string {
	t.Helper()
	film, columns, rows, err := read(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	svg(&b, "a <test>", film, columns, rows)
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
	}
}

func TestPicture(t *testing.T) {
	got := picture(t, "$ ls\n\x1b[1;31m  a<b\x1b[0m c\n\x1b[7mX\x1b[27m\x1b[48;5;220;38;2;1;2;3mY\x1b[39;49m\n\n\n")
	for _, want := range []string{
		`<title>a &lt;test&gt;</title>`,
		`height="78"`, // three lines: the empty ones at the end are no part of it
		`>$ ls</text>`,
		`<use href="#l1" y="30"/>`,
		`<text x="28.8" y="14" textLength="25.2" xml:space="preserve" fill="#f0716b" font-weight="bold">a&lt;b</text>`,
		`<text x="62.4" y="14" textLength="8.4" xml:space="preserve">c</text>`,
		`width="8.4" height="18" fill="#d5dae1"/>`,
		`fill="#ffd700"/>`,
		`fill="#010203">Y</text>`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "animation") {
		t.Error("one screen moves")
	}
}

func TestFilm(t *testing.T) {
	got := picture(t, "one\n\f1000\ntwo\none\n\f3000\n")
	if n := strings.Count(got, ">one<"); n != 1 {
		t.Errorf("a line is drawn %d times", n)
	}
	for _, want := range []string{"4000ms", "0.000%{transform:translateY(0px)}", "25.000%{transform:translateY(-60px)}", `<use href="#l0" y="12"/>`, `<use href="#l1" y="72"/>`, `<use href="#l0" y="90"/>`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
}

func TestNoPicture(t *testing.T) {
	for _, in := range []string{"", "\n\n", "a\n\fsoon\n", "a\n\f0\n"} {
		if _, _, _, err := read(strings.NewReader(in)); err == nil {
			t.Errorf("%q is a picture", in)
		}
	}
}
