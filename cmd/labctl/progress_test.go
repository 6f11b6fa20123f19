package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A bar tells how far, how fast and how long, and never runs over the terminal's
// edge: where there is little room it says less.
func TestProgressBar(t *testing.T) {
	b := progressBar{what: "upload", done: 25e6, total: 100e6, took: 5 * time.Second, unit: megabytes}
	for width, want := range map[int]string{
		0:  "upload [######------------------]  25%  25.0 MB of 100.0 MB  5.0 MB/s  15s left",
		79: "upload [######------------------]  25%  25.0 MB of 100.0 MB  5.0 MB/s  15s left",
		69: "upload [###-----------]  25%  25.0 MB of 100.0 MB  5.0 MB/s  15s left",
		59: "upload  25%  25.0 MB of 100.0 MB  5.0 MB/s  15s left",
		39: "upload  25%  5.0 MB/s  15s left",
		19: "upload  25%  15s l…",
	} {
		got := b.text(width)
		if n := len([]rune(got)); width > 0 && n > width {
			t.Errorf("width %d: %d characters: %s", width, n, got)
		}
		if got != want {
			t.Errorf("width %d:\n%q, want\n%q", width, got, want)
		}
	}
	vms := progressBar{what: "virtual machines", done: 12, total: 60, took: 2 * time.Second, unit: func(n int64) string { return fmt.Sprint(n) }}
	if got := vms.text(0); !strings.HasSuffix(got, " 20%  12 of 60  6/s  8s left") {
		t.Errorf("%q", got)
	}
	vms.done, vms.took = 0, time.Millisecond
	if got := vms.text(0); !strings.HasSuffix(got, "  0%  0 of 60") {
		t.Errorf("nothing is known yet: %q", got)
	}
}
