package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// checkRounds is how often each process checks the library.
const checkRounds = 6

// slowest is how many recipes the report names.
const slowest = 3

// checks times the check of all shipped recipes with nothing given. The first round of a process is what a user waits
// for, and the limit is held against it; the later ones show what is left once tables are built and the heap has grown.
func (b *bench) checks(ctx context.Context) error {
	b.say("checking all shipped recipes, %d processes of %d rounds", b.runs, checkRounds)
	env, err := b.emptyHome()
	if err != nil {
		return err
	}
	var first, later, cpu []time.Duration
	each := map[string][]time.Duration{}
	q := &recipeChecks{Verdicts: map[string]int{}}
	for i := range b.runs + 1 {
		r, err := b.bin.run(ctx, env, "check", fmt.Sprint(checkRounds))
		if err != nil {
			return fmt.Errorf("checking the recipes: %w", err)
		}
		if i == 0 { // brings the file into memory
			continue
		}
		var out struct {
			Rounds  []struct{ WallMs, CPUMs float64 }
			Recipes []struct {
				Name, Verdict string
				WallMs        []float64
			}
		}
		if err := json.Unmarshal(r.out, &out); err != nil {
			return fmt.Errorf("reading the times of the recipes: %w", err)
		}
		if len(out.Rounds) != checkRounds || len(out.Recipes) == 0 {
			return fmt.Errorf("reading the times of the recipes: there are %d rounds of %d recipes", len(out.Rounds), len(out.Recipes))
		}
		for n, round := range out.Rounds {
			if n == 0 {
				first, cpu = append(first, inMs(round.WallMs)), append(cpu, inMs(round.CPUMs))
			} else {
				later = append(later, inMs(round.WallMs))
			}
		}
		q.Recipes = len(out.Recipes)
		clear(q.Verdicts)
		for _, r := range out.Recipes {
			q.Verdicts[r.Verdict]++
			each[r.Name] = append(each[r.Name], inMs(r.WallMs[0]))
		}
	}
	q.First, q.FirstCPU, q.Later = spreadOf(first), spreadOf(cpu), spreadOf(later)
	for name, took := range each {
		q.Slowest = append(q.Slowest, recipeTime{name, ms(median(took))})
	}
	slices.SortFunc(q.Slowest, func(a, b recipeTime) int {
		return cmp.Or(cmp.Compare(b.MedianMs, a.MedianMs), cmp.Compare(a.Name, b.Name))
	})
	q.Slowest = q.Slowest[:min(slowest, len(q.Slowest))]
	b.rep.Recipes = q
	return nil
}

func inMs(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
