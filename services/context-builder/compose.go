package contextbuilder

// supply is what a prompt can be made of, by size.
type supply struct {
	// fixed is never cut: system, examples, input without documents, response format, framing.
	fixed size
	// summary is zero when there is none.
	summary size
	// turns is how many there are; turn measures one, from 0, the oldest.
	turns int
	turn  func(i int) (size, error)
	// documents is how many there are; with measures what the first n of them add to the prompt.
	documents int
	with      func(n int) (size, error)
	fits      func(size) bool
}

// choice is what a prompt is made of.
type choice struct {
	summary bool
	// turns are the newest so many, documents the first.
	turns, documents int
	size             size
}

// compose adds to what is fixed, which fits, what else does: the summary, then turns, the newest first and whole, then
// documents, the best first. The choice is maximal: with what is kept of the earlier groups, neither the next older
// turn nor the next document would fit. So a prompt that grows loses documents first, then its oldest turns, then
// the summary.
func (s *supply) compose() (c choice, err error) {
	c.size = s.fixed
	if whole := c.size.plus(s.summary); s.summary != (size{}) && s.fits(whole) {
		c.summary, c.size = true, whole
	}
	for c.turns < s.turns {
		one, err := s.turn(s.turns - 1 - c.turns)
		if err != nil {
			return c, err
		}
		whole := c.size.plus(one)
		if !s.fits(whole) {
			break
		}
		c.turns, c.size = c.turns+1, whole
	}
	return c, s.composeDocuments(&c)
}

// composeDocuments halves the number of documents that is not known to fit: what they take is not a sum, for a template
// may do anything with them.
func (s *supply) composeDocuments(c *choice) error {
	without, best := c.size, 0
	for next, tooMany := s.documents, s.documents+1; best < next; next = best + (tooMany-best)/2 {
		added, err := s.with(next)
		if err != nil {
			return err
		}
		if whole := without.plus(added); s.fits(whole) {
			best, c.size = next, whole
		} else {
			tooMany = next
		}
	}
	c.documents = best
	return nil
}
