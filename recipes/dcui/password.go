package dcui

// SetPassword gives the belief in worlds whose root password is this one, as
// World.SetPassword does.
func (b Belief) SetPassword(secret string) Belief {
	next := Belief{worlds: b.Worlds()}
	for i := range next.worlds {
		next.worlds[i].root = secret
	}
	return next
}
