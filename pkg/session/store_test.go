package session_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
	"spillway/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// rig is a server with the bucket, and two processes' stores on connections of their own.
type rig struct {
	t      *testing.T
	conn   *broker.Conn
	stores [2]*session.Store
}

func setup(t *testing.T) *rig {
	t.Helper()
	url := brokertest.Server(t).URL()
	r := &rig{t: t, conn: brokertest.Connect(t, url)}
	brokertest.Ensure(t, r.conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
	r.stores = [2]*session.Store{session.NewStore(r.conn), session.NewStore(brokertest.Connect(t, url))}
	return r
}

// update changes the session chat/u of acme.
func (r *rig) update(change func(*session.Session) (bool, error)) *session.Session {
	r.t.Helper()
	s, err := r.stores[0].Update(r.t.Context(), "acme", "chat", "u", day, change)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) load(tenant, task, name string) (*session.Session, uint64) {
	r.t.Helper()
	s, revision, err := r.stores[1].Load(r.t.Context(), tenant, task, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return s, revision
}

func joining(p session.Pending) func(*session.Session) (bool, error) {
	return func(s *session.Session) (bool, error) { return s.Join(p) }
}

// stored is the raw message of a session.
func (r *rig) stored(tenant, task, name string) *broker.Stored {
	r.t.Helper()
	m, err := r.conn.Last(r.t.Context(), "KV_llm_sessions", "$KV.llm_sessions."+session.KeyOf(tenant, task, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	r := setup(t)
	if s, revision := r.load("acme", "chat", "u"); revision != 0 || !s.At.IsZero() || s.Tenant != "acme" || s.Task != "chat" || s.Name != "u" {
		t.Errorf("before the first request: %+v at %d", s, revision)
	}
	written := r.update(func(s *session.Session) (bool, error) {
		join(t, s, pending("a", 1))
		join(t, s, pending("b", 2))
		s.Built("b", "<hello>", []byte(`{"text":"<hello>"}`))
		s.Settle("a", turnOf("a", 1))
		s.Count(job.Usage{InputTokens: 3, OutputTokens: 4, Calls: 1}, 0.5)
		s.State = []byte(`{"n":1}`)
		s.Summary = &session.Summary{Text: "before", Turns: 2, By: session.ByModel, Counts: map[string]int{"o200k_base": 1}}
		s.Over = session.Place{Lane: job.Batch, Seq: 1, At: start}
		s.Fold = &session.Fold{ID: "sum_1", Task: "shorten", Through: at(1), Turns: 1, Deadline: start, Late: []string{"z"}}
		return true, nil
	})
	read, revision := r.load("acme", "chat", "u")
	if revision == 0 || !reflect.DeepEqual(read, written) {
		t.Errorf("written %+v\nread    %+v", written, read)
	}
	if data := string(r.stored("acme", "chat", "u").Data); !strings.Contains(data, `"user":"<hello>"`) || strings.Contains(data, "\n") {
		t.Errorf("stored: %s", data)
	}
	for _, other := range [][3]string{{"", "chat", "u"}, {"other", "chat", "u"}, {"acme", "talk", "u"}, {"acme", "chat", "v"}} {
		if s, _ := r.load(other[0], other[1], other[2]); !s.At.IsZero() || len(s.Turns) > 0 {
			t.Errorf("%v sees the session of another", other)
		}
	}
}

func TestTheServerForgetsASessionWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	r := setup(t)
	keep := func(name string, d time.Duration) string {
		if _, err := r.stores[0].Update(t.Context(), "", "chat", name, d, joining(pending("a", 1))); err != nil {
			t.Fatal(err)
		}
		return r.stored("", "chat", name).Header["Nats-TTL"][0]
	}
	if ttl := keep("days", 3*day); ttl != "259200" {
		t.Errorf("kept for %s seconds, want three days", ttl)
	}
	if ttl := keep("years", 1000*day); ttl != "2592000" {
		t.Errorf("kept for %s seconds, want 30 days, the most", ttl)
	}
	keep("short", time.Second)
	var revision uint64
	brokertest.Eventually(t, 20*time.Second, "the session is forgotten", func() bool {
		var s *session.Session
		s, revision = r.load("", "chat", "short")
		return s.At.IsZero()
	})
	if revision == 0 {
		t.Error("nothing tells that there was one")
	}
	if all, err := r.stores[1].List(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("listed: %v, %v", all, err)
	}
	if keep("short", day) != "86400" {
		t.Error("a session does not begin anew")
	}
	info, err := r.conn.JS.Stream(t.Context(), "KV_llm_sessions")
	if err != nil {
		t.Fatal(err)
	}
	if c := info.CachedInfo().Config; c.MaxAge != 30*day || c.MaxBytes != 1<<30 || !c.AllowMsgTTL || c.MaxMsgsPerSubject != 1 {
		t.Errorf("the bucket: max age %s, %d bytes, ages of messages %t, history %d", c.MaxAge, c.MaxBytes, c.AllowMsgTTL, c.MaxMsgsPerSubject)
	}
}

func TestAChangeThatLostARaceIsMadeAgainOnWhatIsThere(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var seen []string
	s := r.update(func(s *session.Session) (bool, error) {
		seen = append(seen, ids(s.Pending))
		if len(seen) == 1 {
			if _, err := r.stores[1].Update(t.Context(), "acme", "chat", "u", day, joining(pending("other", 1))); err != nil {
				t.Error(err)
			}
		}
		return s.Join(pending("mine", 2))
	})
	if len(seen) != 2 || seen[0] != "" || seen[1] != "other" || ids(s.Pending) != "other mine" {
		t.Errorf("saw %q, waiting %s", seen, ids(s.Pending))
	}
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.update(joining(pending("a", 1)))
	before := r.stored("acme", "chat", "u").Sequence
	if s := r.update(joining(pending("a", 1))); ids(s.Pending) != "a" {
		t.Errorf("returned: %+v", s)
	}
	mine := errors.New("mine")
	if _, err := r.stores[0].Update(t.Context(), "acme", "chat", "u", day, func(*session.Session) (bool, error) { return true, mine }); !errors.Is(err, mine) {
		t.Errorf("the change's error came back as %v", err)
	}
	if after := r.stored("acme", "chat", "u").Sequence; after != before {
		t.Errorf("written again, at %d after %d", after, before)
	}
}

func TestAThousandRequestsJoinAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const n = 1000
	joins := func(i int) error {
		p := pending(fmt.Sprint(i), i+1)
		p.Deadline = start.Add(time.Hour)
		return r.stores[i%2].Join(t.Context(), "acme", "chat", "u", day, p)
	}
	var crowd sync.WaitGroup
	for i := range n {
		crowd.Go(func() {
			if err := joins(i); err != nil {
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	s, _ := r.load("acme", "chat", "u")
	if len(s.Pending) != n {
		t.Fatalf("%d wait", len(s.Pending))
	}
	for i, p := range s.Pending {
		if p.ID != fmt.Sprint(i) {
			t.Fatalf("%s stands at %d", p.ID, i)
		}
	}
	if writes := r.stored("acme", "chat", "u").Sequence; writes > n/2 {
		t.Errorf("a flood of %d requests made %d writes", n, writes)
	}
	if err := joins(n); !errors.Is(err, session.ErrCrowded) {
		t.Errorf("one more: %v", err)
	}
}

// Those that come together are told each for itself, and go on without one that gives up, be it their leader.
func TestWhoJoinsTogetherIsToldForItself(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.update(func(s *session.Session) (bool, error) {
		for i := range 999 {
			p := pending(fmt.Sprint(i), i+1)
			p.Deadline = start.Add(time.Hour)
			join(t, s, p)
		}
		return true, nil
	})
	inside, leave := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		r.update(func(*session.Session) (bool, error) {
			close(inside)
			<-leave
			return false, nil
		})
	})
	<-inside // nobody gets in now
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the lease is lost")
	var joined, crowded, gaveUp atomic.Int64
	for i := range 30 {
		of := t.Context()
		if i%3 == 0 {
			of = ctx
		}
		all.Go(func() {
			p := pending(fmt.Sprint("more", i), 1000+i)
			p.Deadline = start.Add(time.Hour)
			switch err := r.stores[0].Join(of, "acme", "chat", "u", day, p); {
			case err == nil:
				joined.Add(1)
			case errors.Is(err, session.ErrCrowded):
				crowded.Add(1)
			case errors.Is(err, gone) && of == ctx:
				gaveUp.Add(1)
			default:
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	cancel(gone)
	brokertest.Eventually(t, 20*time.Second, "those whose context ended give up", func() bool { return gaveUp.Load() == 10 })
	close(leave)
	all.Wait()
	if joined.Load() != 1 || crowded.Load() != 19 {
		t.Errorf("%d joined, %d found it crowded", joined.Load(), crowded.Load())
	}
	if s, _ := r.load("acme", "chat", "u"); len(s.Pending) != 1000 {
		t.Errorf("%d wait", len(s.Pending))
	}
}

func TestManyWhoChangeASessionLoseNothing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var tries atomic.Int64
	var crowd sync.WaitGroup
	const each, workers = 20, 16
	for w := range workers {
		crowd.Go(func() {
			for range each {
				_, err := r.stores[w%2].Update(t.Context(), "acme", "chat", "u", day, func(s *session.Session) (bool, error) {
					tries.Add(1)
					s.Count(job.Usage{Calls: 1}, 0)
					return true, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	crowd.Wait()
	if s, _ := r.load("acme", "chat", "u"); s.Totals.Usage.Calls != each*workers {
		t.Errorf("%d changes left %d", each*workers, s.Totals.Usage.Calls)
	}
	t.Logf("%d changes took %d tries", each*workers, tries.Load())
}

func TestARecordThatOutgrowsItsSizeIsCompactedWhenItIsWritten(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i := range 6 {
		r.update(func(s *session.Session) (bool, error) {
			turn := turnOf(fmt.Sprint(i), i+1)
			turn.Assistant = strings.Repeat("x", 200_000)
			s.Settle(turn.ID, turn)
			return true, nil
		})
	}
	s, _ := r.load("acme", "chat", "u")
	if size := len(r.stored("acme", "chat", "u").Data); size > 512<<10 || turns(s) != "4 5" || s.Summary.Turns != 4 || s.Totals.Turns != 6 {
		t.Errorf("%d bytes, turns %s, %+v", size, turns(s), s.Totals)
	}
}

func TestWhoWaitsForASessionGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	r := setup(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	var holder sync.WaitGroup
	holder.Go(func() {
		r.update(func(*session.Session) (bool, error) {
			close(inside)
			<-leave
			return false, nil
		})
	})
	<-inside
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the lease is lost")
	cancel(gone)
	if _, err := r.stores[0].Update(ctx, "acme", "chat", "u", day, joining(pending("a", 1))); !errors.Is(err, gone) {
		t.Errorf("ended with %v", err)
	}
	close(leave)
	holder.Wait()
}

func TestSessionsAreListedAndForgotten(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, of := range [][3]string{{"b", "chat", "u"}, {"a", "chat", "v"}, {"a", "chat", "u"}, {"", "talk", "u"}} {
		if _, err := r.stores[0].Update(t.Context(), of[0], of[1], of[2], day, func(s *session.Session) (bool, error) {
			s.Settle("t", turnOf("t", 1))
			s.Summary = &session.Summary{Turns: 3}
			return s.Join(pending("p", 2))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := putRaw(t, r, `{"v":9}`); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		all, err := r.stores[1].List(t.Context())
		if err == nil || !errors.Is(err, broker.ErrUnreadable) {
			t.Errorf("a record of a later version is read: %v", err)
		}
		var list []string
		for _, i := range all {
			list = append(list, i.Tenant+"/"+i.Task+"/"+i.Name)
			if i.Turns != 1 || i.Pending != 1 || i.Summary != 3 || i.Bytes < 100 || time.Since(i.At) > time.Hour {
				t.Errorf("listed: %+v", i)
			}
		}
		return strings.Join(list, " ")
	}
	if got := names(); got != "/talk/u a/chat/u a/chat/v b/chat/u" {
		t.Errorf("listed: %s", got)
	}
	was, err := r.stores[0].Remove(t.Context(), "a", "chat", "u")
	if err != nil || turns(was) != "t" {
		t.Errorf("forgotten: %+v, %v", was, err)
	}
	if _, err := r.stores[0].Remove(t.Context(), "a", "chat", "u"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("forgotten again: %v", err)
	}
	if got := names(); got != "/talk/u a/chat/v b/chat/u" {
		t.Errorf("listed: %s", got)
	}
	if s, revision := r.load("a", "chat", "u"); !s.At.IsZero() || revision == 0 {
		t.Errorf("after the removal: %+v at %d", s, revision)
	}
}

func TestASessionThatCannotBeReadIsForgottenAllTheSame(t *testing.T) {
	t.Parallel()
	r := setup(t)
	if err := putRaw(t, r, `{"v":9}`); err != nil {
		t.Fatal(err)
	}
	if was, err := r.stores[0].Remove(t.Context(), "", "chat", "unreadable"); err != nil || was.Name != "unreadable" || !was.At.IsZero() {
		t.Errorf("forgotten: %+v, %v", was, err)
	}
	if s, _ := r.load("", "chat", "unreadable"); !s.At.IsZero() {
		t.Errorf("after the removal: %+v", s)
	}
}

// putRaw stores what no session is, under the key of one.
func putRaw(t *testing.T, r *rig, data string) error {
	t.Helper()
	_, err := r.conn.Swap(t.Context(), "llm_sessions", session.KeyOf("", "chat", "unreadable"), []byte(data), 0)
	if err != nil {
		return err
	}
	if _, _, err := r.stores[0].Load(t.Context(), "", "chat", "unreadable"); !errors.Is(err, broker.ErrUnreadable) {
		t.Errorf("read: %v", err)
	}
	return nil
}
