package bundle

import (
	"testing"
	"time"
)

// A mounted folder is not changed everywhere at once: some see a save minutes after it was rolled back, or replaced.
func TestASaveThatIsSeenLateChangesNothing(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	saved := func(more func(r *Record)) *Record {
		r := &Record{}
		r.goLive("one", "a", HowStart, "", start.Add(-time.Hour))
		r.goLive("two", "a", HowSave, "", start)
		more(r)
		return r
	}
	back := func(r *Record) { r.goLive("one", "ann", HowRollback, LeftByRollback, start.Add(10*time.Second)) }
	on := func(r *Record) { r.goLive("three", "a", HowSave, "", start.Add(10*time.Second)) }
	for what, row := range map[string]struct {
		after    func(*Record)
		replaces string
		by       string
		at       time.Duration
		leaves   bool
	}{
		"of what was rolled back":                {back, "one", "b", 3 * time.Minute, true},
		"of what was replaced":                   {on, "one", "b", 3 * time.Minute, true},
		"a minute later, of another one's place": {on, "zero", "b", 3 * time.Minute, false},
		"at once, of another one's place":        {back, "zero", "b", 30 * time.Second, true},
		"long after":                             {back, "one", "b", 6 * time.Minute, false},
		"by who saved it":                        {back, "one", "a", 3 * time.Minute, false},
	} {
		p := Push{Bundle: &Bundle{Task: "toy", Version: "two"}, Replaces: row.replaces, By: row.by, How: HowSave}
		if got := p.leaves(saved(row.after), start.Add(row.at)); got != row.leaves {
			t.Errorf("a save %s leaves what is live: %t", what, got)
		}
	}
}
