// Package recipes turns a file that says what to do at an ESXi host's console
// into keys that are right in every world the host may be in, tells where they
// lead in each, and types them.
//
// A file is parsed, compiled against a [dcui.Belief], checked and run; what was
// checked is what is typed. It fails early: Parse gives every fault of a file
// at once, as [Errors] with places; Compile refuses what cannot be typed and a
// secret that no world would hide, as Errors too; a Check always gives a
// [Verdict]; and Run types nothing unless that verdict is safe, or each effect
// that is not wanted has been accepted by name, else it gives an
// [*UnsafeError]. A key that was not delivered ends a run with a [*TypeError],
// and a goal that is not seen afterwards with a [*VerifyError].
package recipes
