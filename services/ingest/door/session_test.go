package door

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
)

// told collects what a session's client is told, by job, until it has so many results.
func (c *reader) told(results int) (byJob map[string][]string, last string) {
	c.t.Helper()
	byJob = map[string][]string{}
	for results > 0 {
		e := c.next()
		var of struct{ ID string }
		if err := json.Unmarshal([]byte(e.Data), &of); err != nil || e.Type == "" {
			c.t.Fatalf("told %+v: %v", e, err)
		}
		byJob[of.ID] = append(byJob[of.ID], brief(e))
		if e.Type == "result" {
			results--
		}
		last = e.LastEventID
	}
	return byJob, last
}

// first is the state that a session's client is told first.
func (c *reader) first() map[string]string {
	c.t.Helper()
	e := c.next()
	var s struct {
		Session string
		Jobs    []struct{ ID, Status string }
	}
	if err := json.Unmarshal([]byte(e.Data), &s); err != nil || e.Type != "state" || s.Session == "" {
		c.t.Fatalf("first comes %+v: %v", e, err)
	}
	statuses := map[string]string{}
	for _, j := range s.Jobs {
		statuses[j.ID] = j.Status
	}
	return statuses
}

func TestOneStreamTellsOfAllJobsOfASessionAndOfNoOtherTenants(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	const jobs = 20
	w.admit("before", "acme", "s") // this door begins
	_, served := w.open(w.conn)
	url := served.URL + "/v1/sessions/s/events?tenant="
	acme, other := read(t, url+"acme", ""), read(t, url+"other", "")
	if got := acme.first(); len(got) != 1 || got["before"] == "" {
		t.Errorf("acme begins with %v", got)
	}
	if got := other.first(); len(got) != 0 {
		t.Errorf("the other tenant begins with %v", got)
	}
	for i := range jobs {
		id := fmt.Sprintf("j%d", i)
		w.admit(id, "acme", "s")
		w.tell("llm.progress.toy."+id, whose("acme", "s"), fmt.Sprintf(`{"id":%q,"hop":1}`, id))
		w.say(id, "acme", "s", said{hop: 3, holder: "h", n: 1, text: "a"}, said{hop: 3, holder: "h", n: 2, text: "b"})
	}
	for i := range jobs {
		w.finish(fmt.Sprintf("j%d", i), "acme", "s", 1)
	}
	w.finish("of-other", "other", "s", 1)
	byJob, _ := acme.told(jobs)
	for i := range jobs {
		got := byJob[fmt.Sprintf("j%d", i)]
		slices.Sort(got) // progress and drafts are not in step
		if !slices.Equal(got, []string{`draft "a"`, `draft "b"`, `progress`, `result`}) {
			t.Errorf("j%d: %q", i, got)
		}
	}
	if byJob, _ := other.told(1); len(byJob) != 1 || len(byJob["of-other"]) != 1 {
		t.Errorf("the other tenant is told %v", byJob)
	}
	// Who comes late gets all that was of late.
	late := read(t, url+"acme", "")
	statuses := late.first()
	byJob, _ = late.told(jobs)
	if len(statuses) != jobs+1 || statuses["j7"] != "succeeded" || len(byJob) != jobs {
		t.Errorf("late: %v, results of %d", statuses, len(byJob))
	}
}

func TestWhoComesBackToASessionGetsWhatItDoesNotHave(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	_, replica := w.open(brokertest.Connect(t, w.url))
	path := "/v1/sessions/s/events?tenant=acme"
	for _, id := range []string{"had", "speaking", "missed"} {
		w.admit(id, "acme", "s")
	}
	c := read(t, served.URL+path, "")
	c.first()
	for _, id := range []string{"had", "speaking", "missed"} {
		w.tell("llm.progress.toy."+id, whose("acme", "s"), fmt.Sprintf(`{"id":%q,"hop":1}`, id))
	}
	w.say("speaking", "acme", "s", said{hop: 3, holder: "h", n: 1, text: "a"})
	w.finish("had", "acme", "s", 1)
	_, id := c.told(1)
	ms, err := strconv.ParseInt(id, 10, 64)
	if err != nil || time.Since(time.UnixMilli(ms)).Abs() > time.Minute {
		t.Fatalf("the last id is %q", id)
	}
	c.leave()
	w.finish("missed", "acme", "s", 1)
	w.say("speaking", "acme", "s", said{hop: 3, holder: "h", n: 2, text: "b"})

	// Minutes later, as far as the clocks are concerned.
	back := read(t, replica.URL+path, strconv.FormatInt(time.Now().Add(clockSlack+time.Minute).UnixMilli(), 10))
	if got := back.first(); len(got) != 3 || got["had"] != "succeeded" || got["speaking"] == "" {
		t.Errorf("states: %v", got)
	}
	w.finish("speaking", "acme", "s", 1)
	if byJob, _ := back.told(1); !slices.Equal(byJob["speaking"], []string{"restarted", `draft "ab"`, "result"}) || len(byJob) != 1 {
		t.Errorf("who had all results is told %v", byJob)
	}
	// At once: what it may have missed is told, if need be again.
	back = read(t, replica.URL+path, id)
	back.first()
	if byJob, _ := back.told(3); len(byJob["missed"]) != 1 {
		t.Errorf("who missed a result is told %v", byJob)
	}
}

func TestASessionThatCanBeNoneIsRefused(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	for _, path := range []string{"/v1/sessions/a%20b/events", "/v1/sessions/%00/events", "/v1/sessions/s/events?tenant=a%20b"} {
		if c := read(t, served.URL+path, ""); c.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, c.status)
		}
	}
	c := read(t, served.URL+"/v1/sessions/a%2Fb:c@d=e/events", "")
	if got := c.first(); len(got) != 0 {
		t.Errorf("a session that is unknown has %v", got)
	}
}
