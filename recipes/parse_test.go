package recipes

import (
	"errors"
	"testing"
)

func TestLibraryParses(t *testing.T) {
	for _, name := range libraryNames() {
		src, err := libraryFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(name+".yaml", src)
		if err != nil {
			t.Errorf("%s", err)
			continue
		}
		if r.Name != name {
			t.Errorf("%s.yaml holds recipe %s", name, r.Name)
		}
	}
	if len(Library()) != len(libraryNames()) {
		t.Errorf("the library has %d recipes of %d files", len(Library()), len(libraryNames()))
	}
}

func TestFindUnknown(t *testing.T) {
	_, err := Find("restore-standart-switch")
	var unknown *NotFoundError
	if !errors.As(err, &unknown) || unknown.Near != "restore-standard-switch" {
		t.Errorf("got %v", err)
	}
}
