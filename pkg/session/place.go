package session

import (
	"cmp"
	"time"
)

// Place is where a request stands in the order of acceptance.
type Place struct {
	// Lane is interactive or batch, Seq the request's sequence in the stream of that lane; 0: not known.
	Lane string `json:"lane"`
	Seq  uint64 `json:"seq"`
	// At is the moment of its PubAck.
	At time.Time `json:"at"`
}

// Before reports whether p was accepted before q: within a lane its stream says so, between lanes the time does.
func (p Place) Before(q Place) bool { return p.compare(q) < 0 }

func (p Place) compare(q Place) int {
	if p.Lane == q.Lane {
		return cmp.Or(cmp.Compare(p.Seq, q.Seq), p.At.Compare(q.At))
	}
	return cmp.Or(p.At.Compare(q.At), cmp.Compare(p.Lane, q.Lane))
}
