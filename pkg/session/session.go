package session

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"spillway/pkg/job"
)

// Bounds of a record. MaxState is what its owner may put into State, in bytes.
const (
	MaxPending = 1000
	MaxBytes   = 512 << 10
	MaxState   = 32 << 10
)

// Grace is how long after its deadline a request's result may still be waited for, and Late how long after it a result
// that comes still makes a turn: what writes results may have been away.
const (
	Grace = time.Minute
	Late  = 24 * time.Hour
)

// version of the records that this package writes. A later one may mean what this package does not know.
const version = 1

// ErrCrowded is returned by Join when the session has MaxPending requests waiting.
var ErrCrowded = errors.New("the session has too many requests waiting")

// Session is what is remembered of a conversation. It is for one goroutine.
type Session struct {
	V      int    `json:"v"`
	Tenant string `json:"tenant,omitempty"`
	Task   string `json:"task"`
	Name   string `json:"session"`
	// Turns are those not in the summary, and Pending the requests whose results are not turns yet; both are in the
	// order of acceptance.
	Turns   []Turn    `json:"turns,omitempty"`
	Pending []Pending `json:"pending,omitempty"`
	// Summary stands for the turns that left; nil: none did, or they were dropped.
	Summary *Summary `json:"summary,omitempty"`
	// Fold is the summary that was asked for; nil: none is under way.
	Fold *Fold `json:"fold,omitempty"`
	// Over is the newest place that was folded or dropped: who is not after it is not remembered any more.
	Over  Place           `json:"over,omitzero"`
	State json.RawMessage `json:"state,omitempty"`
	// Totals are of all runs of the session, folded ones included.
	Totals Totals `json:"totals"`
	// At is when the record was written.
	At time.Time `json:"at,omitzero"`
}

// Pending is a request of the session that is not a turn yet.
type Pending struct {
	ID  string `json:"id"`
	Run int    `json:"run"`
	Place
	Deadline time.Time `json:"deadline"`
	// User is what the turn will have the user say, Input the request's input; both are empty until its prompt is
	// built.
	User  string          `json:"user,omitempty"`
	Input json.RawMessage `json:"input,omitempty"`
}

// Turn is one exchange: what the user was rendered as saying, and what was answered.
type Turn struct {
	ID  string `json:"id"`
	Run int    `json:"run"`
	Place
	User      string     `json:"user"`
	Assistant string     `json:"assistant"`
	Source    job.Source `json:"source,omitempty"`
	// Counts are the tokens of both contents by encoding, "" where a model has none.
	Counts map[string]int `json:"counts,omitempty"`
}

// Who made a summary.
const (
	ByModel   = "model"
	ByExtract = "extract"
)

// Summary stands for turns that left.
type Summary struct {
	Text   string         `json:"text"`
	Turns  int            `json:"turns"`
	By     string         `json:"by"`
	Counts map[string]int `json:"counts,omitempty"`
}

// Fold is a summary that was asked for: the job ID of Task makes it, of the oldest Turns turns, up to Through.
type Fold struct {
	ID       string    `json:"id"`
	Task     string    `json:"task"`
	Through  Place     `json:"through"`
	Turns    int       `json:"turns"`
	Deadline time.Time `json:"deadline"`
	// Late are the turns up to Through that came after it was asked for: it does not know them.
	Late []string `json:"late,omitempty"`
}

// Totals are sums over a session.
type Totals struct {
	Turns   int       `json:"turns"`
	Usage   job.Usage `json:"usage"`
	CostUSD float64   `json:"cost_usd"`
}

// New is a session of which nothing is remembered.
func New(tenant, task, name string) *Session {
	return &Session{V: version, Tenant: tenant, Task: task, Name: name}
}

// KeyOf is where the bucket keeps a session: 32 hexadecimal digits.
func KeyOf(tenant, task, name string) string { return hash([]string{tenant, task, name}) }

// hash is over the parts and where each ends.
func hash(parts []string) string {
	sum := sha256.New()
	var size [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		sum.Write(size[:])
		sum.Write([]byte(part))
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// Join adds a request that was admitted. It does nothing for an id that is pending or a turn with this run or a later
// one, and for a place that is over. ErrCrowded: MaxPending others wait, none of them longer than Grace after its
// deadline.
func (s *Session) Join(p Pending) (changed bool, err error) {
	if p.Run == 1 {
		s.restart(p.Place)
		s.release(p)
	}
	if i := s.turn(p.ID); i >= 0 {
		if s.Turns[i].Run >= p.Run {
			return false, nil
		}
		p.Place = s.Turns[i].Place
	} else if s.pending(p.ID) < 0 && p.compare(s.Over) <= 0 {
		return false, nil
	}
	if i := s.pending(p.ID); i >= 0 {
		if s.Pending[i].Run >= p.Run {
			return false, nil
		}
		p.Place = s.Pending[i].Place
		s.Pending[i] = p
		return true, nil
	}
	if len(s.Pending) >= MaxPending && !s.forget(p.At) {
		return false, ErrCrowded
	}
	s.Pending = insert(s.Pending, p, func(p Pending) Place { return p.Place })
	return true, nil
}

// forget drops the oldest request whose result nobody asked for until long after its deadline: when no prompts are
// built, pending requests would fill the session for good.
func (s *Session) forget(now time.Time) bool {
	i := slices.IndexFunc(s.Pending, func(p Pending) bool { return now.After(p.Deadline.Add(Grace)) })
	if i >= 0 {
		s.Pending = slices.Delete(s.Pending, i, i+1)
	}
	return i >= 0
}

// reusedAfter is how much later than a request another one of the same id is: no marker is kept for less.
const reusedAfter = 48 * time.Hour

// release takes p's id from the request that had it before, whose marker is gone: else p would be taken for that one,
// and not be remembered. A mark that no id has stands for it.
func (s *Session) release(p Pending) {
	isOther := func(q Place) bool { return p.At.Sub(q.At) > reusedAfter }
	if i := s.turn(p.ID); i >= 0 && isOther(s.Turns[i].Place) {
		s.Turns[i].ID += "'"
	}
	if i := s.pending(p.ID); i >= 0 && isOther(s.Pending[i].Place) {
		s.Pending = slices.Delete(s.Pending, i, i+1)
	}
}

// restartedAfter is how much later than a higher sequence a lower one is when its stream was deleted and made anew. It
// is more than the clocks of a cluster differ.
const restartedAfter = time.Minute

// restart puts all that is known of p's lane before p if p is from a new stream, whose sequences begin again: else
// nothing would be remembered any more until they reach the old ones.
func (s *Session) restart(p Place) {
	known := []*Place{&s.Over}
	for i := range s.Turns {
		known = append(known, &s.Turns[i].Place)
	}
	for i := range s.Pending {
		known = append(known, &s.Pending[i].Place)
	}
	if s.Fold != nil {
		known = append(known, &s.Fold.Through)
	}
	known = slices.DeleteFunc(known, func(q *Place) bool { return q.Lane != p.Lane })
	if slices.ContainsFunc(known, func(q *Place) bool { return q.Seq > p.Seq && p.At.Sub(q.At) > restartedAfter }) {
		for _, q := range known {
			q.Seq = 0 // their times tell them apart
		}
	}
}

// Built notes on a pending request what its turn will say. It reports whether that was news.
func (s *Session) Built(id, user string, input json.RawMessage) bool {
	i := s.pending(id)
	if !json.Valid(input) {
		input = nil // the record must be encodable, whatever came
	}
	if i < 0 || s.Pending[i].User == user && slices.Equal(s.Pending[i].Input, input) {
		return false
	}
	s.Pending[i].User, s.Pending[i].Input = user, input
	return true
}

// Settle ends a pending request: with its turn, which takes the request's place, or with nothing to remember (nil). A
// turn that is there already is replaced where it stands, unless a later run made it.
func (s *Session) Settle(id string, turn *Turn) {
	var t Turn
	if turn != nil {
		t = *turn
	}
	if i := s.pending(id); i >= 0 {
		t.Place = s.Pending[i].Place
		s.Pending = slices.Delete(s.Pending, i, i+1)
	}
	if turn == nil {
		return
	}
	if i := s.turn(id); i >= 0 {
		if s.Turns[i].Run <= t.Run {
			t.Place = s.Turns[i].Place
			s.Turns[i] = t
		}
		return
	}
	s.Turns = insert(s.Turns, t, func(t Turn) Place { return t.Place })
	s.Totals.Turns++
	if s.Fold != nil && t.compare(s.Fold.Through) <= 0 {
		s.Fold.Late = append(s.Fold.Late, t.ID)
	}
}

// Count adds what a run cost.
func (s *Session) Count(u job.Usage, usd float64) {
	s.Totals.Usage.InputTokens += u.InputTokens
	s.Totals.Usage.OutputTokens += u.OutputTokens
	s.Totals.Usage.Calls += u.Calls
	s.Totals.CostUSD += usd
}

// Leaving returns the oldest turns, those beyond the newest recent ones.
func (s *Session) Leaving(recent int) []Turn { return s.Turns[:max(len(s.Turns)-max(recent, 0), 0)] }

// UpTo returns the turns that Folded drops, the oldest first: not those that a fold under way does not know.
func (s *Session) UpTo(through Place) []Turn {
	turns, _ := s.divide(through)
	return turns
}

// divide tells the turns up to through from those that stay.
func (s *Session) divide(through Place) (leaving, staying []Turn) {
	end := slices.IndexFunc(s.Turns, func(t Turn) bool { return through.Before(t.Place) })
	if end < 0 {
		end = len(s.Turns)
	}
	for _, t := range s.Turns[:end] {
		if s.Fold != nil && slices.Contains(s.Fold.Late, t.ID) {
			staying = append(staying, t)
		} else {
			leaving = append(leaving, t)
		}
	}
	return leaving, append(staying, s.Turns[end:]...)
}

// Folded drops the turns up to through; summary stands for them and for all before. No fold is under way any more.
func (s *Session) Folded(through Place, summary *Summary) {
	_, s.Turns = s.divide(through)
	if s.Over.Before(through) {
		s.Over = through
	}
	s.Summary, s.Fold = summary, nil
}

func (s *Session) pending(id string) int {
	return slices.IndexFunc(s.Pending, func(p Pending) bool { return p.ID == id })
}

func (s *Session) turn(id string) int {
	return slices.IndexFunc(s.Turns, func(t Turn) bool { return t.ID == id })
}

// insert puts v behind the newest one that is not after it: most come in order.
func insert[T any](all []T, v T, place func(T) Place) []T {
	i := len(all)
	for i > 0 && place(v).Before(place(all[i-1])) {
		i--
	}
	return slices.Insert(all, i, v)
}
