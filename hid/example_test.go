package hid_test

import (
	"errors"
	"fmt"

	"github.com/labctl/labctl/hid"
)

func ExampleLayout_Chords() {
	swiss, err := hid.FindLayout("Swiss German")
	if err != nil {
		fmt.Println(err)
		return
	}
	chords, err := swiss.Chords("zy^")
	fmt.Println(chords, err)
	for _, r := range hid.Reports(chords[:1]) {
		fmt.Println(r)
	}
	var unmapped *hid.UnmappedError
	_, err = swiss.Chords("p4ß字")
	fmt.Println(errors.As(err, &unmapped), err)
	// Output:
	// [Y Z EQUAL SPACE] <nil>
	// 00001c0000000000
	// 0000000000000000
	// true layout Swiss German cannot type character 4 of the text
}

func ExampleParseChords() {
	chords, err := hid.ParseChords("F2 DOWN×2 ALT+F1")
	fmt.Println(chords, err)
	_, err = hid.ParseChords("F2 ENTR")
	fmt.Println(err)
	// Output:
	// [F2 DOWN DOWN ALT+F1] <nil>
	// reading key "ENTR" at offset 3: no such key
}
