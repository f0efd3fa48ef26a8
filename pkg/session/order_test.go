package session_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/session"
)

// life is what happens to one request of a session in the model, which knows nothing of the package's ways: it is a
// list of what was accepted, and says what must be remembered of each.
type life struct {
	place session.Place
	// joined is true once it joined in time, settled once its end is known, answered if there was an answer.
	joined, settled, answered bool
}

// history drives a session with random steps, each possibly repeated, and knows what must come of them.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	s     *session.Session
	lives []life // in the order of acceptance
	over  int    // the number of the newest life that was folded, from 1
	// asked are the ids that the summary under way is about.
	asked []string
}

func newHistory(t *testing.T, seed uint64, n int) *history {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 1)), s: session.New("", "chat", "u")}
	next := map[string]uint64{}
	moment := start
	for range n {
		lane := []string{job.Interactive, job.Batch}[h.rng.IntN(2)]
		next[lane] += 1 + h.rng.Uint64N(3) // others' requests are between
		moment = moment.Add(time.Duration(1 + h.rng.IntN(1000)))
		h.lives = append(h.lives, life{place: session.Place{Lane: lane, Seq: next[lane], At: moment}})
	}
	return h
}

func (h *history) join(i int) {
	p := session.Pending{ID: fmt.Sprint(i), Run: 1, Place: h.lives[i].place, Deadline: start.Add(time.Hour)}
	l := h.lives[i]
	// One that ended without an answer left nothing behind: it waits again, and ends so again.
	inTime := (!l.joined || l.settled && !l.answered && !h.waits(i)) && i+1 > h.over
	changed, err := h.s.Join(p)
	if err != nil {
		h.t.Fatal(err)
	}
	if changed != inTime {
		h.t.Fatalf("join of %d, with all up to %d over: changed %t", i, h.over, changed)
	}
	h.lives[i].joined = h.lives[i].joined || inTime
}

// settle ends a request that joined, as it ended the first time.
func (h *history) settle(i int) {
	l := &h.lives[i]
	if !h.waits(i) && !h.holds(i) {
		return // nobody settles what is not pending
	}
	if !l.settled {
		l.settled, l.answered = true, h.rng.IntN(4) > 0
	}
	var turn *session.Turn
	if l.answered {
		turn = &session.Turn{ID: fmt.Sprint(i), Run: 1, Place: l.place, User: "u", Assistant: "a"}
	}
	h.s.Settle(fmt.Sprint(i), turn)
}

func (h *history) waits(i int) bool {
	return slices.ContainsFunc(h.s.Pending, func(p session.Pending) bool { return p.ID == fmt.Sprint(i) })
}

func (h *history) holds(i int) bool {
	return slices.ContainsFunc(h.s.Turns, func(t session.Turn) bool { return t.ID == fmt.Sprint(i) })
}

// fold asks for a summary of the oldest turns, or takes the one that was asked for, by the model or extracted.
func (h *history) fold() {
	if h.s.Fold == nil {
		leaving := h.s.Leaving(h.rng.IntN(5))
		if len(leaving) == 0 {
			return
		}
		h.asked = nil
		for _, t := range leaving {
			h.asked = append(h.asked, t.ID)
		}
		h.s.Fold = &session.Fold{ID: "sum", Through: leaving[len(leaving)-1].Place, Turns: len(leaving)}
		return
	}
	text, n := "", 0
	if h.s.Summary != nil {
		text, n = h.s.Summary.Text, h.s.Summary.Turns
	}
	through := h.s.Fold.Through
	if h.rng.IntN(2) == 0 {
		h.asked = nil
		for _, t := range h.s.UpTo(through) {
			h.asked = append(h.asked, t.ID)
		}
	}
	h.s.Folded(through, &session.Summary{Text: text + " " + strings.Join(h.asked, " "), Turns: n + len(h.asked)})
	for i, l := range h.lives {
		if l.place == through {
			h.over = max(h.over, i+1)
		}
	}
}

// check compares what is remembered with what the model says.
func (h *history) check() {
	h.t.Helper()
	var want, remembered []string
	for i, l := range h.lives {
		if l.joined && l.answered {
			want = append(want, fmt.Sprint(i))
		}
	}
	last := -1
	for _, turn := range h.s.Turns {
		var i int
		if _, err := fmt.Sscan(turn.ID, &i); err != nil {
			h.t.Fatal(err)
		}
		if i <= last {
			h.t.Fatalf("turn %d stands behind %d", i, last)
		}
		last = i
		remembered = append(remembered, turn.ID)
	}
	if h.s.Summary != nil {
		folded := strings.Fields(h.s.Summary.Text)
		if h.s.Summary.Turns != len(folded) {
			h.t.Fatalf("the summary is of %d turns, it says %d", len(folded), h.s.Summary.Turns)
		}
		remembered = append(remembered, folded...)
	}
	slices.Sort(want)
	slices.Sort(remembered)
	if !slices.Equal(want, remembered) {
		h.t.Fatalf("remembered %v, want %v", remembered, want)
	}
	if h.s.Totals.Turns != len(want) {
		h.t.Fatalf("%d turns in all, want %d", h.s.Totals.Turns, len(want))
	}
}

// Whatever comes in whatever order and however often: each turn is remembered once, in the order of acceptance.
func TestEveryTurnIsRememberedOnceInTheOrderOfAcceptance(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		const n = 40
		h := newHistory(t, seed, n)
		for step := range 12 * n {
			i := h.rng.IntN(min(n, step/6+3)) // roughly in order, as requests come
			switch h.rng.IntN(6) {
			case 0, 1:
				h.join(i)
			case 2, 3, 4:
				h.settle(i)
			default:
				h.fold()
			}
			h.check()
		}
		if h.over == 0 {
			t.Fatalf("seed %d: nothing was folded", seed)
		}
	}
}
