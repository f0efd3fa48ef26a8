package job

import (
	"cmp"
	"encoding/json"
	"slices"

	"spillway/pkg/fate"
)

// Shown is what a reader of drafts shows of one request. It takes them in any order, any of them twice or not at
// all, and decides by their fields alone. The zero value is ready; it is for one goroutine.
type Shown struct {
	// Text or Partial is the answer so far, by the task's format; both are empty when there is none, or it was
	// taken back.
	Text    string
	Partial json.RawMessage
	// Gap is true when pieces of Text were missed: what is shown ends before them, until another try or the result.
	Gap bool
	// Code is why what was shown before was taken back; "": it was not, or for no reason that is told.
	Code fate.Code

	last Draft
	// left are the holders of the try whose place another took.
	left  []string
	ended int
}

// Take takes a message in. It reports whether it was news: if not, the message is late or was seen before.
func (s *Shown) Take(d Draft) bool {
	if d.Run <= s.ended {
		return false
	}
	switch order := d.compare(&s.last); {
	case order < 0:
		return false
	case order > 0:
		s.left = nil
		s.forget()
	case d.Holder != s.last.Holder:
		if slices.Contains(s.left, d.Holder) {
			return false
		}
		s.left = append(s.left, s.last.Holder)
		s.forget()
	case d.N <= s.last.N:
		return false
	}
	if d.Event == DraftPart {
		s.add(&d)
	} else {
		s.forget()
		s.Code = d.Code
	}
	s.last = d
	return true
}

// End is to be called with the run of a result: it stands in the place of all drafts of that run and of earlier
// ones, whether they came or are yet to come.
func (s *Shown) End(run int) {
	if s.ended = max(s.ended, run); s.last.Run <= s.ended {
		s.last = Draft{}
		s.forget()
	}
}

// add shows a part. The number of the one before it is that of the try at hand, or 0.
func (s *Shown) add(d *Draft) {
	s.Code = ""
	if d.Partial != nil {
		s.Partial = d.Partial
		return
	}
	before := 0
	if d.compare(&s.last) == 0 && d.Holder == s.last.Holder {
		before = s.last.N
	}
	if s.Gap = s.Gap || d.N != before+1; !s.Gap {
		s.Text += d.Text
	}
}

func (s *Shown) forget() { s.Text, s.Partial, s.Gap, s.Code = "", nil, false, "" }

// compare orders tries: what is of a later one takes the place of what is of an earlier one.
func (d *Draft) compare(other *Draft) int {
	return cmp.Or(cmp.Compare(d.Run, other.Run), cmp.Compare(d.Hop, other.Hop), cmp.Compare(d.Delivery, other.Delivery))
}
