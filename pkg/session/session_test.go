package session_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/session"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is the n-th place of the interactive lane, a second after the one before.
func at(n int) session.Place {
	return session.Place{Lane: job.Interactive, Seq: uint64(n), At: start.Add(time.Duration(n) * time.Second)}
}

func pending(id string, n int) session.Pending {
	return session.Pending{ID: id, Run: 1, Place: at(n), Deadline: at(n).At.Add(time.Minute)}
}

func turnOf(id string, n int) *session.Turn {
	return &session.Turn{ID: id, Run: 1, Place: at(n), User: "asked " + id, Assistant: "answered " + id, Source: job.FromModel}
}

// join joins and fails the test if that changes nothing.
func join(t *testing.T, s *session.Session, p session.Pending) {
	t.Helper()
	if changed, err := s.Join(p); err != nil || !changed {
		t.Fatalf("join %s: changed %t, %v", p.ID, changed, err)
	}
}

func turns(s *session.Session) string {
	var ids []string
	for _, turn := range s.Turns {
		ids = append(ids, turn.ID)
	}
	return strings.Join(ids, " ")
}

func ids(all []session.Pending) string {
	var names []string
	for _, p := range all {
		names = append(names, p.ID)
	}
	return strings.Join(names, " ")
}

func TestASessionIsKeptUnderAHashOfItsTenantTaskAndName(t *testing.T) {
	t.Parallel()
	// Computed with another language's SHA-256 over 8 bytes of length and the text, for each part.
	if key := session.KeyOf("acme", "chat", "user-42"); key != "cc8359d80f4ed4f0e4e63810432313b1" {
		t.Errorf("key %s", key)
	}
	seen := map[string]bool{}
	for _, parts := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"", "ab", "c"}, {"a", "bc", ""}, {"a", "", "bc"}, {"b", "a", "c"}} {
		seen[session.KeyOf(parts[0], parts[1], parts[2])] = true
	}
	if len(seen) != 6 {
		t.Errorf("6 sessions have %d keys", len(seen))
	}
}

func TestAPlaceIsBeforeAnotherByItsStreamWithinALaneAndByTimeBetweenLanes(t *testing.T) {
	t.Parallel()
	place := func(lane string, seq uint64, second int) session.Place {
		return session.Place{Lane: lane, Seq: seq, At: start.Add(time.Duration(second) * time.Second)}
	}
	for name, row := range map[string]struct{ earlier, later session.Place }{
		"a lane's sequence":              {place("batch", 3, 9), place("batch", 4, 1)},
		"between lanes the time":         {place("interactive", 9, 1), place("batch", 2, 2)},
		"the same moment":                {place("batch", 9, 1), place("interactive", 2, 1)},
		"a stream that was made anew":    {place("batch", 3, 1), place("batch", 3, 2)},
		"nothing is before all that was": {session.Place{}, place("batch", 1, 0)},
	} {
		if !row.earlier.Before(row.later) || row.later.Before(row.earlier) {
			t.Errorf("%s: the order is wrong", name)
		}
		if row.later.Before(row.later) {
			t.Errorf("%s: a place is before itself", name)
		}
	}
}

func TestARequestJoinsOnce(t *testing.T) {
	t.Parallel()
	s := session.New("acme", "chat", "u")
	for _, p := range []session.Pending{pending("b", 2), pending("a", 1), pending("d", 4), pending("c", 3)} {
		join(t, s, p)
	}
	if ids(s.Pending) != "a b c d" {
		t.Errorf("waiting: %s", ids(s.Pending))
	}
	isNotAdded := func(p session.Pending, why string) {
		t.Helper()
		if changed, err := s.Join(p); changed || err != nil {
			t.Errorf("joined again although %s (%v)", why, err)
		}
	}
	isNotAdded(pending("b", 2), "it waits")
	s.Settle("a", turnOf("a", 1))
	isNotAdded(pending("a", 1), "it is a turn")
	s.Settle("b", nil)
	s.Folded(at(2), nil)
	isNotAdded(pending("a", 1), "it was folded")
	isNotAdded(pending("b", 2), "its place is over")
	isNotAdded(pending("z", 1), "its place is over, though nobody knew it")
	if turns(s) != "" || ids(s.Pending) != "c d" {
		t.Errorf("turns %q, waiting %q", turns(s), ids(s.Pending))
	}
}

func TestAStreamThatWasMadeAnewGoesOnBehindAllThatWas(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	for i, id := range []string{"a", "b", "c", "d"} {
		join(t, s, pending(id, 1000+i))
	}
	s.Settle("a", turnOf("a", 1000))
	s.Folded(at(1000), nil)
	s.Settle("c", turnOf("c", 1002))
	early := pending("early", 1)
	early.At = at(1003).At.Add(30 * time.Second) // a clock's mistake, no new stream
	if changed, _ := s.Join(early); changed {
		t.Error("a place that is over joined")
	}
	for i, id := range []string{"x", "y"} {
		p := pending(id, i+1)
		p.At = at(1003).At.Add(2*time.Minute + time.Duration(i))
		join(t, s, p)
	}
	if ids(s.Pending) != "b d x y" {
		t.Errorf("waiting: %s", ids(s.Pending))
	}
	s.Settle("y", &session.Turn{ID: "y", Run: 1, Place: s.Pending[3].Place})
	s.Settle("b", turnOf("b", 1001)) // its job knows the old sequence
	if turns(s) != "b c y" {
		t.Errorf("turns %s", turns(s))
	}
}

// Markers are kept for days, sessions for a month: by then an id can be used again.
func TestAnIdThatIsUsedAgainAfterItsMarkerIsGoneIsAnotherTurn(t *testing.T) {
	t.Parallel()
	const later = 72 * 3600 // seconds
	s := session.New("", "chat", "u")
	join(t, s, pending("a", 1))
	s.Settle("a", turnOf("a", 1))
	join(t, s, pending("lost", 2)) // nobody found out how it ended
	for _, id := range []string{"a", "lost"} {
		if changed, err := s.Join(pending(id, 3600)); err != nil || changed {
			t.Fatalf("the same request within the hour: %t, %v", changed, err)
		}
		join(t, s, pending(id, later))
	}
	again := turnOf("a", later)
	again.Assistant = "answered anew"
	s.Settle("a", again)
	if len(s.Turns) != 2 || s.Turns[0].Assistant != "answered a" || s.Turns[1].Assistant != "answered anew" || s.Totals.Turns != 2 {
		t.Errorf("%+v", s.Turns)
	}
	if len(s.Pending) != 1 || s.Pending[0].Place != at(later) {
		t.Errorf("%+v", s.Pending)
	}
}

func TestAReplayTakesThePlaceOfItsTurn(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	for i, id := range []string{"a", "b", "c"} {
		join(t, s, pending(id, i+1))
		s.Settle(id, turnOf(id, i+1))
	}
	again := pending("b", 2)
	again.Run, again.At = 2, again.At.Add(time.Hour)
	join(t, s, again)
	if changed, _ := s.Join(again); changed {
		t.Error("the same replay joined twice")
	}
	second := *turnOf("b", 2)
	second.Run, second.Assistant, second.Place = 2, "the second answer", again.Place
	s.Settle("b", &second)
	if turns(s) != "a b c" || s.Turns[1].Assistant != "the second answer" || len(s.Pending) != 0 || s.Totals.Turns != 3 {
		t.Errorf("turns %s: %+v, %d turns in all", turns(s), s.Turns[1], s.Totals.Turns)
	}
	s.Settle("b", turnOf("b", 2))
	if s.Turns[1].Assistant != "the second answer" {
		t.Error("an earlier run replaced a later one")
	}
}

func TestASessionTakesAThousandRequestsAndForgetsTheOverdueOnes(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	for i := range 1000 {
		p := pending(fmt.Sprint("r", i), i+1)
		p.Deadline = start.Add(time.Hour)
		join(t, s, p)
	}
	late := pending("late", 2000)
	if changed, err := s.Join(late); changed || !errors.Is(err, session.ErrCrowded) {
		t.Fatalf("the request after a thousand: %t, %v", changed, err)
	}
	if changed, err := s.Join(pending("r7", 8)); changed || err != nil {
		t.Errorf("one that waits already: %t, %v", changed, err)
	}
	s.Pending[3].Deadline = late.At.Add(-session.Grace) // not over yet: it must be longer ago
	if _, err := s.Join(late); !errors.Is(err, session.ErrCrowded) {
		t.Errorf("before the grace is over: %v", err)
	}
	s.Pending[3].Deadline = late.At.Add(-session.Grace - time.Millisecond)
	join(t, s, late)
	if len(s.Pending) != 1000 || strings.Contains(ids(s.Pending)+" ", "r3 ") || s.Pending[999].ID != "late" {
		t.Errorf("%d wait, the last is %s", len(s.Pending), s.Pending[999].ID)
	}
}

func TestWhatATurnWillSayIsNotedOnce(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	join(t, s, pending("a", 1))
	for i, row := range []struct {
		id, user, input string
		news            bool
	}{{"a", "hello", `{"text":"hello"}`, true}, {"a", "hello", `{"text":"hello"}`, false}, {"a", "hallo", `{"text":"hello"}`, true}, {"b", "x", `{}`, false}} {
		if got := s.Built(row.id, row.user, []byte(row.input)); got != row.news {
			t.Errorf("step %d: news %t", i, got)
		}
	}
	if s.Built("a", "hallo", []byte(`{"cut`)); s.Pending[0].Input != nil {
		t.Errorf("the record holds %s, which is not JSON", s.Pending[0].Input)
	}
}

func TestWhatCameWhileItWasFoldedIsNotDroppedWithTheRest(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	for i, id := range []string{"slow", "b", "c", "d"} {
		join(t, s, pending(id, i+1))
	}
	for i, id := range []string{"b", "c", "d"} {
		s.Settle(id, turnOf(id, i+2))
	}
	leaving := s.Leaving(1)
	through := leaving[len(leaving)-1].Place
	s.Fold = &session.Fold{ID: "sum_1", Task: "shorten", Through: through, Turns: len(leaving)}
	s.Settle("slow", turnOf("slow", 1))
	if turns(s) != "slow b c d" {
		t.Fatalf("turns %s", turns(s))
	}
	var folded []string
	for _, turn := range s.UpTo(through) {
		folded = append(folded, turn.ID)
	}
	if !slices.Equal(folded, []string{"b", "c"}) {
		t.Errorf("%v are folded", folded)
	}
	s.Folded(through, &session.Summary{Text: "of b and c", Turns: 2, By: session.ByModel})
	if turns(s) != "slow d" || s.Fold != nil || s.Over != at(3) {
		t.Errorf("left: %s, over %+v", turns(s), s.Over)
	}
	if changed, _ := s.Join(pending("slow", 1)); changed {
		t.Error("a turn below what is over joined again")
	}
	s.Folded(at(1), s.Summary)
	if turns(s) != "d" || s.Over != at(3) {
		t.Errorf("left: %s, over %+v", turns(s), s.Over)
	}
}

func TestCostsAreAddedUp(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	s.Count(job.Usage{InputTokens: 100, OutputTokens: 7, Calls: 1}, 0.25)
	s.Count(job.Usage{InputTokens: 1, OutputTokens: 2, Calls: 3}, 0.5)
	if want := (session.Totals{Usage: job.Usage{InputTokens: 101, OutputTokens: 9, Calls: 4}, CostUSD: 0.75}); s.Totals != want {
		t.Errorf("totals %+v", s.Totals)
	}
}

func TestADigestTellsWhatIsShownAndNothingElse(t *testing.T) {
	t.Parallel()
	said := func(texts ...string) (all []session.Turn) {
		for i := 0; i < len(texts); i += 2 {
			all = append(all, session.Turn{ID: fmt.Sprint(i, texts), User: texts[i], Assistant: texts[i+1]})
		}
		return all
	}
	for _, nothing := range []string{"", "null", "{}", " { } "} {
		if d := session.Digest(nil, nil, []byte(nothing)); d != "" {
			t.Errorf("nothing is shown (%q), the digest is %s", nothing, d)
		}
	}
	base := session.Digest(&session.Summary{Text: "s", By: session.ByModel}, said("a", "b"), []byte(`{"n":1,"m":[2]}`))
	if same := session.Digest(&session.Summary{Text: "s", Turns: 4}, []session.Turn{{ID: "other", Run: 3, Place: at(8), User: "a", Assistant: "b"}}, []byte(` {"m":[2], "n":1}`)); same != base {
		t.Error("the same shown by another session has another digest")
	}
	seen := map[string]string{base: "the base"}
	for name, other := range map[string]string{
		"another summary":       session.Digest(&session.Summary{Text: "t"}, said("a", "b"), []byte(`{"n":1,"m":[2]}`)),
		"no summary":            session.Digest(nil, said("a", "b"), []byte(`{"n":1,"m":[2]}`)),
		"another state":         session.Digest(&session.Summary{Text: "s"}, said("a", "b"), []byte(`{"n":1,"m":[3]}`)),
		"a number of the state": session.Digest(&session.Summary{Text: "s"}, said("a", "b"), []byte(`{"n":1.0000000000000000001,"m":[2]}`)),
		"no state":              session.Digest(&session.Summary{Text: "s"}, said("a", "b"), nil),
		"sides swapped":         session.Digest(&session.Summary{Text: "s"}, said("b", "a"), []byte(`{"n":1,"m":[2]}`)),
		"another border":        session.Digest(&session.Summary{Text: "s"}, said("ab", ""), []byte(`{"n":1,"m":[2]}`)),
		"a turn more":           session.Digest(&session.Summary{Text: "s"}, said("a", "b", "", ""), []byte(`{"n":1,"m":[2]}`)),
	} {
		if before, ok := seen[other]; ok {
			t.Errorf("%s has the digest of %s", name, before)
		}
		seen[other] = name
	}
}
