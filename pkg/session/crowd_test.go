package session

import "testing"

// Whoever gives up, at whatever moment: one of those that wait still leads.
func TestTheLeadPassesToOneWhoIsThere(t *testing.T) {
	t.Parallel()
	c := crowds{waiting: map[string][]*joiner{}}
	one := func() *joiner { return &joiner{told: make(chan verdict, 1)} }
	leads := func(j *joiner) bool {
		select {
		case v := <-j.told:
			return v.lead
		default:
			return false
		}
	}
	first, second, third, fourth := one(), one(), one(), one()
	if !c.enter("s", first) || c.enter("s", second) || c.enter("s", third) {
		t.Fatal("not the first leads, or it alone")
	}
	if !c.enter("another", one()) {
		t.Error("the crowd of another session is in the way")
	}
	crowd := c.take("s")
	c.leave("s", second) // while the leader is at work for it
	c.enter("s", fourth)
	c.putBack("s", crowd)
	c.pass("s")
	if leads(second) || !leads(third) || leads(fourth) {
		t.Fatal("the lead did not pass to the first that is there")
	}
	c.pass("s")
	c.leave("s", fourth) // it was told, and had not heard it yet
	if _, led := c.waiting["s"]; led {
		t.Error("the lead is lost")
	}
	c.leave("s", first) // all is over already
	if !c.enter("s", one()) {
		t.Error("who comes later waits for nobody")
	}
}
