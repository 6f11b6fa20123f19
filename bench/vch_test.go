package main

import (
	"context"
	"testing"
)

// What VCHs cost. Requests and bytes are counted and hold anywhere; times hold
// on a machine that does nothing else, and are told, not judged.
func TestVCHFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("it uploads a gigabyte")
	}
	bin, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{bin: bin}
	err = b.withLab(t.Context(), 100, func(ctx context.Context, l *lab) error {
		f, err := b.vch(ctx, l)
		if err != nil {
			return err
		}
		t.Logf("%+v", *f)
		if f.Up > 32 || f.List > 8 || f.Down > 24 || f.TenUpload > 1.2 {
			t.Errorf("over the limits: %+v", *f)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
