package recipes

import "github.com/labctl/labctl/recipes/dcui"

// Evidence is what somebody other than the model has said of a condition. A
// world is left as long as it may have given the answer: cables, switches and
// firewalls are no part of the model, so that silence speaks against no world.

// mayHold says whether a condition can be seen to hold in a world.
func mayHold(w dcui.World, k Condition) bool {
	switch {
	case k.Kind == "unreachable":
		return true // the way to the host may be cut
	case k.asksSSH():
		return holds(w, k) && onNetwork(w)
	}
	return holds(w, k)
}

// mayFail says whether a condition can be seen not to hold in a world.
func mayFail(w dcui.World, k Condition) bool {
	switch k.Kind {
	case "reachable", "closed", "icmp", "led", "usb-reset":
		return true
	case "unreachable": // something answers
		k.Kind = "reachable"
		return holds(w, k)
	}
	if k.asksSSH() {
		// No answer at all is no evidence: the other state has to be seen.
		return !holds(w, k) && onNetwork(w)
	}
	return !holds(w, k)
}

// asksSSH says whether a condition is the state of SSH, which the network tells:
// its port answers, or the host refuses it.
func (c Condition) asksSSH() bool { return c.Kind == "fact" && c.Fact == "ssh" }

// onNetwork says whether a host may answer at its management address.
func onNetwork(w dcui.World) bool { return holds(w, Condition{Kind: "reachable"}) }

// given leaves the worlds that may have given an answer. whole holds those that
// were asked: where a condition rests on a fact that made no difference so far,
// they are more than in b.
func given(b dcui.Belief, k Condition, yes bool) (whole, left dcui.Belief) {
	whole = sorted(b, k)
	may := mayFail
	if yes {
		may = mayHold
	}
	return whole, whole.Where(func(w dcui.World) bool { return may(w, k) })
}
