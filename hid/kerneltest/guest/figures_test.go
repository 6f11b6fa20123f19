//go:build linux

package guest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/labctl/labctl/hid"
)

// silentKey is F21, for which the console has no meaning: what is measured is the
// keyboard, not what a terminal does with characters.
const silentKey hid.Usage = 0x70

// bare sends reports in the shortest way that still waits for each to be taken.
func bare(t *testing.T, node string, reports int, pause time.Duration) time.Duration {
	t.Helper()
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	start := time.Now()
	var r hid.Report
	for i := range reports {
		r[2] = 0
		if i%2 == 0 {
			r[2] = byte(silentKey)
		}
		if _, err := unix.Write(fd, r[:]); err != nil {
			t.Fatal(err)
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		for {
			_, err := unix.Ppoll(fds, &unix.Timespec{Sec: 1}, nil)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EINTR) {
				t.Fatal(err)
			}
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	return time.Since(start)
}

func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return s[len(s)/2]
}

// TestFigures measures typing with proof of delivery beside the bare loop, in
// turns, because the machine is not equally fast all the time; and how well a
// pause that was asked for is kept.
func TestFigures(t *testing.T) {
	kb, host := plug(t, hid.Options{})
	go func() {
		for ev := range host.ch {
			_ = ev // only read so that the kernel's buffer does not fill
		}
	}()
	const rounds, reports = 15, 500
	chords := make([]hid.Chord, reports/2)
	for i := range chords {
		chords[i] = hid.Chord{Key: silentKey}
	}
	var proven, plain, ratio []float64
	now, err := system.Inspect("")
	if err != nil {
		t.Fatal(err)
	}
	for range rounds {
		b := bare(t, now.Node, reports, 0)
		start := time.Now()
		if n, err := kb.Type(t.Context(), chords, hid.Pace{}); err != nil || n != reports {
			t.Fatalf("%d reports: %v", n, err)
		}
		p := time.Since(start)
		plain = append(plain, reports/b.Seconds())
		proven = append(proven, reports/p.Seconds())
		ratio = append(ratio, b.Seconds()/p.Seconds())
	}
	figure("proven-reports/s", median(proven))
	figure("bare-reports/s", median(plain))
	figure("proven/bare", median(ratio))
	if got := median(ratio); got < 0.75 {
		t.Errorf("proof of delivery leaves %.0f %% of the bare loop's speed", 100*got)
	}
}

// TestPauses measures how well pauses that were asked for are kept, by the
// kernel's own times of the keys, and beside it how well a bare loop keeps them:
// what both miss is the machine's doing.
func TestPauses(t *testing.T) {
	kb, host := plug(t, hid.Options{})
	const rounds, taps, pause = 10, 20, 10 * time.Millisecond
	now, err := system.Inspect("")
	if err != nil {
		t.Fatal(err)
	}
	chords := make([]hid.Chord, taps)
	for i := range chords {
		chords[i] = hid.Chord{Key: silentKey}
	}
	times := func() (between []float64) { // ms
		var last event
		for i := range 2 * taps {
			ev := host.next(t)
			if i > 0 {
				between = append(between, float64(ev.at-last.at)/1e6)
			}
			last = ev
		}
		return between
	}
	var ours, plain []float64
	for range rounds {
		bare(t, now.Node, 2*taps, pause)
		plain = append(plain, times()...)
		if _, err := kb.Type(t.Context(), chords, hid.Pace{Hold: pause, Gap: pause}); err != nil {
			t.Fatal(err)
		}
		ours = append(ours, times()...)
	}
	// How far pauses are from their median, in ms.
	tell := func(who string, between []float64) (p90, p99 float64) {
		mid := median(between)
		var off []float64
		for _, b := range between {
			off = append(off, max(b-mid, mid-b))
		}
		slices.Sort(off)
		p90, p99 = off[len(off)*90/100], off[len(off)*99/100]
		figure(who+"-pause-ms", mid)
		figure(who+"-pause-off-p90-ms", p90)
		figure(who+"-pause-off-p99-ms", p99)
		return p90, p99
	}
	ours90, ours99 := tell("proven", ours)
	bare90, bare99 := tell("bare", plain)
	figure("pause-added-p90-ms", ours90-bare90)
	figure("pause-added-p99-ms", ours99-bare99)
	if got := median(ours); got < pause.Seconds()*1000 {
		t.Errorf("%.1f ms between two keys, asked for %s", got, pause)
	}
}
