// Check checks all recipes that labctl ships, with no fact given, several times over, and prints how long that took as
// JSON. It is a program of its own so that the first round has nothing remembered from before, and because a benchmark
// that had checked recipes itself would be too large to measure the memory of its children.
//
// It fails where a recipe cannot be compiled or checked at all, or where its verdict is none of those that labctl knows.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/labctl/labctl/recipes"
)

func main() {
	rounds := 1
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "check: %q is no number of rounds\n", os.Args[1])
			os.Exit(2)
		}
		rounds = n
	}
	if err := run(context.Background(), rounds); err != nil {
		fmt.Fprintf(os.Stderr, "check: %v\n", err)
		os.Exit(1)
	}
}

// result is what is printed. Times are in milliseconds.
type result struct {
	Rounds  []round  `json:"rounds"`
	Recipes []recipe `json:"recipes"`
}

// round is one check of the whole library. The processor time is that of all threads, the collector's included; it
// does not count what other programs took meanwhile.
type round struct {
	WallMs float64 `json:"wallMs"`
	CPUMs  float64 `json:"cpuMs"`
}

type recipe struct {
	Name    string    `json:"name"`
	Verdict string    `json:"verdict"`
	Worlds  int       `json:"worlds"` // that end differently
	WallMs  []float64 `json:"wallMs"` // of each round
}

func run(ctx context.Context, rounds int) error {
	library := recipes.Library() // parsing is not part of checking
	out := result{Recipes: make([]recipe, len(library))}
	for range rounds {
		cpu, err := used()
		if err != nil {
			return err
		}
		start := time.Now()
		for i, r := range library {
			began := time.Now()
			v, err := check(ctx, r)
			if err != nil {
				return fmt.Errorf("checking %s: %w", r.Name, err)
			}
			into := &out.Recipes[i]
			into.Name, into.Verdict, into.Worlds = r.Name, string(v.Verdict), len(v.Worlds)
			into.WallMs = append(into.WallMs, ms(time.Since(began)))
		}
		took := time.Since(start)
		after, err := used()
		if err != nil {
			return err
		}
		out.Rounds = append(out.Rounds, round{ms(took), ms(after - cpu)})
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// used is the processor time of this process so far.
func used() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("asking for processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

func check(ctx context.Context, r *recipes.Recipe) (*recipes.Verdict, error) {
	b, err := r.Belief(nil)
	if err != nil {
		return nil, err
	}
	p, err := r.Compile(b, recipes.Vars{})
	if err != nil {
		return nil, err
	}
	v, err := p.Check(ctx)
	if err != nil {
		return nil, err
	}
	switch v.Verdict {
	case recipes.Safe, recipes.Unsafe, recipes.NeedsFacts:
		return v, nil
	}
	return nil, fmt.Errorf("its verdict is %q", v.Verdict)
}
