// Package dcui is the direct console of an ESXi host as a model, so that keys
// which nobody sees land can be judged before they are typed.
//
// A World is one state of one host: what it is (the facts), where its console
// stands, and what the keys so far have done to it (the effects). Press is a
// pure function from a world and a key to the next world; Render draws the
// 80×25 screen. A Belief is every world that the known facts leave over; it
// follows a key in all of them at once and tells two worlds apart only where a
// fact made a difference.
//
// What the model knows is of unequal worth. Each transition carries its
// Evidence, from documented down to inferred, and where nothing is documented
// it follows the best-graded reading. The facts named in FactNames are the
// only dimensions in which worlds differ.
//
// It fails only on bad input: a name or a value that is no fact is a
// *FactError. No sequence of keys is an error; a key that means nothing where
// it arrives leaves the world as it was.
package dcui
