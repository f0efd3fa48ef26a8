package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

func TestADerivedIDIsTheSameAtEachDeliveryAndAnotherForAnotherMessage(t *testing.T) {
	t.Parallel()
	created, stored := time.Unix(1_790_000_000, 1), time.Unix(1_790_000_100, 123_456_789)
	id := derivedID("S", created, stored, 7)
	if again := derivedID("S", created, stored, 7); again != id {
		t.Errorf("%s, then %s", id, again)
	}
	for name, other := range map[string]string{
		"the next message":     derivedID("S", created, stored, 8),
		"another stream":       derivedID("T", created, stored, 7),
		"a recreated stream":   derivedID("S", created.Add(1), stored, 7),
		"a nanosecond later":   derivedID("S", created, stored.Add(1), 7),
		"a millisecond later":  derivedID("S", created, stored.Add(time.Millisecond), 7),
		"a stream of a longer": derivedID("S\x00", created, stored, 7),
	} {
		if other == id {
			t.Errorf("%s has the same id", name)
		}
	}
	// The library that defines ULIDs in Go reads it back.
	parsed, err := ulid.ParseStrict(id)
	if err != nil || !job.IsID(id) || ulid.Time(parsed.Time()).UnixMilli() != stored.UnixMilli() {
		t.Errorf("%s: %v, %s", id, err, ulid.Time(parsed.Time()))
	}
}

func TestWhiteSpaceMakesNoOtherRequest(t *testing.T) {
	t.Parallel()
	one := hashBody("t", []byte(`{"input":{"a b":1}}`))
	if hashBody("t", []byte("{ \"input\" :\n{\"a b\": 1 } }\n")) != one {
		t.Error("the same request written wider has another hash")
	}
	for _, other := range []string{`{"input":{"ab":1}}`, `{"input":{"a b":2}}`, `{"input":{"a b":1}`, ``} {
		if hashBody("t", []byte(other)) == one {
			t.Errorf("%s has the same hash", other)
		}
	}
	if hashBody("u", []byte(`{"input":{"a b":1}}`)) == one {
		t.Error("another task has the same hash")
	}
}

func TestTheIDOfABodyThatIsRefusedIsFoundWhereItCan(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"input":{"id":"inner"},"id":"outer"}`:                        "outer",
		`{"id":"first","input":`:                                       "first",
		`{"input":"` + strings.Repeat("x", 1<<20) + `","id":"behind"}`: "behind",
		`{"id":"a b"}`:     "",
		`{"id":7}`:         "",
		`["id","x"]`:       "",
		`{"input":{"a":1`:  "",
		``:                 "",
		`{"id":"` + "\xff": "",
	} {
		if got := findID([]byte(body)); got != want {
			t.Errorf("%.40s: found %q, want %q", body, got, want)
		}
	}
}

func TestTheLaneSaysHowLongARunMayTake(t *testing.T) {
	t.Parallel()
	toy := &task.Task{Deadline: task.Deadline{Default: time.Minute, Max: 10 * time.Minute}}
	for _, c := range []struct {
		lane, deadline string
		want           time.Duration
		refused        bool
	}{
		{job.Interactive, "", time.Minute, false},
		{job.Batch, "", 24 * time.Hour, false},
		{job.Interactive, "10m", 10 * time.Minute, false},
		{job.Interactive, "10m1ms", 0, true},
		{job.Batch, "10h", 10 * time.Hour, false},
		{job.Batch, "24h1s", 0, true},
		{job.Interactive, "-1s", 0, true},
		{job.Interactive, "0s", 0, true},
	} {
		body := `{"input":1}`
		if c.deadline != "" {
			body = `{"input":1,"deadline":"` + c.deadline + `"}`
		}
		r := read([]byte(body), "", "toy", c.lane, toy)
		if (r.code == fate.InvalidRequest) != c.refused || !c.refused && (r.code != "" || r.duration != c.want) {
			t.Errorf("%s %q: %s, %s %+v", c.lane, c.deadline, r.duration, r.code, r.reasons)
		}
	}
}

func FuzzARequestIsReadWithoutAPanicAndBadOnesHaveAReason(f *testing.F) {
	for _, seed := range []string{`{"input":1}`, `{"id":"a","input":{"a":[1,2]},"x":1}`, `[`, "\xff", `{"input":1E400}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := read(body, "", "toy", job.Interactive, &task.Task{Deadline: task.Deadline{Default: time.Minute, Max: time.Minute}})
		if e := r.rejection(); e != nil && (e.Message == "" || len(e.Reasons) == 0) {
			t.Errorf("%q: %+v", body, e)
		}
		if r.id != "" && !job.IsID(r.id) {
			t.Errorf("%q: id %q", body, r.id)
		}
	})
}
