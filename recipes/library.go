package recipes

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

//go:embed *.yaml
var files embed.FS

// Library gives the recipes that come with labctl, sorted by name. Callers
// share them and must not change them.
func Library() []*Recipe { return slices.Clone(library()) }

var library = sync.OnceValue(func() []*Recipe {
	var all []*Recipe
	for _, name := range libraryNames() {
		src, err := libraryFile(name + ".yaml")
		if err != nil {
			continue
		}
		// A file that does not parse is one that a test has caught.
		if r, err := Parse("library/"+name+".yaml", src); err == nil {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *Recipe) int { return strings.Compare(a.Name, b.Name) })
	return all
})

func libraryFile(name string) ([]byte, error) { return files.ReadFile(name) }

// libraryNames lists the embedded files without their endings.
func libraryNames() []string {
	entries, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil
	}
	for i, e := range entries {
		entries[i] = strings.TrimSuffix(e, ".yaml")
	}
	return entries
}

// Find gives a recipe of the library by its name. The error is a
// *NotFoundError.
func Find(name string) (*Recipe, error) {
	var names []string
	for _, r := range library() {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return nil, &NotFoundError{Name: name, Near: nearest(name, names)}
}
