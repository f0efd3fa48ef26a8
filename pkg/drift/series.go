package drift

const (
	// level is how often chance may alarm, at most: once in so many answers.
	level = 1e-5
	// times is how many times the usual share alarms.
	times = 2
	// usualAnswers are what the newest are compared with; leastUsual of them there must be.
	usualAnswers = 8192
	leastUsual   = 200
	// settled is after how many answers a new share is the usual one.
	settled = 2000
	// nearby is which part of its way a share may still be away from the usual one to count as back.
	nearby = 0.25
)

// windows are how many answers are compared, the longest last.
func windows() [3]int { return [3]int{50, 200, 1000} }

// Share is so many bad ones of so many answers.
type Share struct{ Bad, Of int }

// Value is the share as a number from 0 to 1.
func (s Share) Value() float64 {
	if s.Of == 0 {
		return 0
	}
	return float64(s.Bad) / float64(s.Of)
}

// Event is what an answer made of a series.
type Event string

// The events. None is what nearly every answer is.
const (
	None     Event = ""
	Doubled  Event = "doubled"
	Returned Event = "returned"
	Settled  Event = "settled"
)

// Change is an event with the shares that it is about: the usual one, and that of the newest answers.
type Change struct {
	Event       Event
	Usual, Now  Share
	windowIndex int
}

// series is what is known of the answers of one task, of one kind.
type series struct {
	// usual are the answers before the recent ones; of these, counts are the bad ones in each window.
	usual, recent ring
	counts        [3]int
	// alarm is what the share doubled by, since how many answers; its Event is None while the series is armed.
	alarm Change
	since int
	// enough is how many bad ones in the window of the alarm are few enough to be back.
	enough int
}

func newSeries() *series {
	w := windows()
	return &series{usual: newRing(usualAnswers), recent: newRing(w[len(w)-1])}
}

// saw adds an answer.
func (s *series) saw(bad bool) Change {
	s.add(bad)
	switch {
	case s.alarm.Event == Doubled:
		return s.watch()
	case bad: // a good one makes nothing worse
		return s.compare()
	}
	return Change{}
}

func (s *series) add(bad bool) {
	for i, w := range windows() {
		if s.recent.n >= w && s.recent.newest(w-1) {
			s.counts[i]--
		}
		if bad {
			s.counts[i]++
		}
	}
	if s.recent.n == s.recent.size {
		leaves := s.recent.pop()
		if s.alarm.Event == None {
			s.usual.push(leaves)
		}
	}
	s.recent.push(bad)
}

// compare looks for a window whose share has doubled.
func (s *series) compare() Change {
	all := windows()
	for i, w := range all {
		before := Share{s.usual.bad + s.recent.bad - s.counts[i], s.usual.n + s.recent.n - w}
		if s.recent.n < w || before.Of < leastUsual || s.counts[i]*before.Of < times*before.Bad*w {
			continue
		}
		if chance(s.counts[i], w, before.Bad, before.Of) > level/float64(len(all)) {
			continue
		}
		s.alarm, s.since = Change{Event: Doubled, Usual: before, Now: Share{s.counts[i], w}, windowIndex: i}, 0
		expected := before.Value() * float64(w)
		s.enough = int(expected + nearby*(float64(s.counts[i])-expected))
		for s.recent.n > w { // what the window was compared with is what is usual
			s.usual.push(s.forget())
		}
		return s.alarm
	}
	return Change{}
}

// watch waits for the end of an alarm.
func (s *series) watch() Change {
	s.since++
	i := s.alarm.windowIndex
	w := windows()[i]
	change := Change{Usual: s.alarm.Usual, Now: Share{s.counts[i], w}}
	switch {
	case s.counts[i] <= s.enough:
		change.Event = Returned
		for s.recent.n > w { // what came during the alarm is not what is usual
			s.forget()
		}
	case s.since >= settled:
		change.Event = Settled
		s.usual.clear()
		for s.recent.n > 0 {
			s.usual.push(s.forget())
		}
	default:
		return Change{}
	}
	s.alarm = Change{}
	return change
}

// forget takes the oldest of the recent answers out of all windows.
func (s *series) forget() (bad bool) {
	n := s.recent.n
	bad = s.recent.pop()
	for i, w := range windows() {
		if bad && n <= w {
			s.counts[i]--
		}
	}
	return bad
}
