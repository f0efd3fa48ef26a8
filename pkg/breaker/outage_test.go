package breaker

import (
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
)

func (r *replica) loses() {
	r.t.Helper()
	brokertest.Eventually(r.t, 10*time.Second, "the replica has lost the broker", func() bool { return !r.link.up.Load() })
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAnOpenCircuitOutlivesAllProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s := setupAt(t, server.URL())
	all := s.three()
	all[0].breaks()
	epoch := s.storedAs(small, Open).Epoch
	seeEpoch(t, all, small, epoch)
	all[0].stop()
	server.Stop()
	all[1].loses()
	if open := all[1].refused("small"); open.State != Open {
		t.Errorf("while the server is away: %v", open)
	}
	all[1].call("large", Verdict{Result: Worked})
	s.clock.forward(halfOpenAfter)
	if open := all[1].refused("small"); !open.Until.After(s.clock.now()) || all[1].Look("small").ProbeDue {
		t.Errorf("no probe can begin without the server: %v, look again at %s", open, open.Until)
	}
	s.clock.past.Store(0)

	brokertest.StartServer(t, embedded.Options{Port: portOf(t, s.url), Store: dir, Sync: time.Second})
	started := s.idle("d", s.url)
	if open := started.refused("small"); open.State != Open {
		t.Errorf("a replica that started during the outage: %v", open)
	}
	all[1].synced()
	all[2].synced()
	all[1].refused("small")

	// And it goes on from there, for all.
	s.clock.forward(halfOpenAfter)
	all[1].call("small", Verdict{Result: Worked})
	all[2].sees(small, Closed)
	all[2].call("small", Verdict{Result: Failed, Opens: OpensModel})
	all[1].sees(small, Open)
}

func TestAReplicaThatStartsBeforeTheBrokerWaitsForItButNotLong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s := setupAt(t, server.URL())
	if err := OpenByHand(t.Context(), s.conn, small, time.Hour, "maintenance", "operator ann"); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	r := s.idle("a", s.url).run()
	began := time.Now()
	r.call("small", Verdict{Result: Worked}) // nothing is known: it passes
	if took := time.Since(began); took > patience+time.Second {
		t.Errorf("the first call waited %s", took)
	}
	began = time.Now()
	r.call("small", Verdict{Result: Worked})
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the second call waited %s, too", took)
	}
	brokertest.StartServer(t, embedded.Options{Port: portOf(t, s.url), Store: dir, Sync: time.Second})
	r.synced()
	if open := r.refused("small"); open.Why != "maintenance" {
		t.Errorf("refused with %v", open)
	}
}

func TestAReplicaCutOffVotesForItselfAndSaysSoLater(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.model.Settings.HalfOpenAfter = time.Minute
	link := brokertest.Proxy(t, s.url)
	alone, other := s.replicaAt("alone", link.URL()), s.replica("other")
	link.Cut()
	alone.loses()
	began := time.Now()
	alone.breaks()
	if open := alone.refused("small"); open.State != Open || !open.Until.Equal(s.clock.now().Add(time.Minute)) {
		t.Errorf("cut off, it says %v", open)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s without the broker", took)
	}
	other.call("small", Verdict{Result: Worked})
	if got := s.stored(small); got.Epoch != 0 {
		t.Fatalf("stored %+v through a link that is cut", got)
	}
	link.Heal()
	if got := s.storedAs(small, Open); got.By != "alone" || got.Epoch != 1 {
		t.Errorf("stored %+v", got)
	}
	other.sees(small, Open)
	seeEpoch(t, []*replica{alone, other}, small, 1)
	if n := alone.logs.count("a breaker opened"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

func TestAVoteFromAnOutageIsDroppedIfTheRecordMovedMeanwhile(t *testing.T) {
	t.Parallel()
	s := setup(t)
	link := brokertest.Proxy(t, s.url)
	alone, other := s.replicaAt("alone", link.URL()), s.replica("other")
	link.Cut()
	alone.loses()
	alone.breaks()
	other.breaks()
	s.storedAs(small, Open)
	if err := CloseByHand(t.Context(), s.conn, small, "operator ann"); err != nil {
		t.Fatal(err)
	}
	alone.refused("small")
	link.Heal()
	alone.seesBack(small, Closed)
	alone.call("small", Verdict{Result: Worked})
	if got := s.stored(small); got.State != Closed || got.Epoch != 2 {
		t.Errorf("stored %+v", got)
	}
}

// seesBack waits for a reconnect, too.
func (r *replica) seesBack(c Circuit, s State) {
	r.t.Helper()
	r.synced()
	r.sees(c, s)
}

func TestAReplicaThatWasCutOffPassesNoCallWhenItIsBack(t *testing.T) {
	t.Parallel()
	s := setup(t)
	link := brokertest.Proxy(t, s.url)
	alone, other := s.replicaAt("alone", link.URL()), s.replica("other")
	link.Cut()
	alone.loses()
	other.breaks()
	s.storedAs(small, Open)
	alone.call("small", Verdict{Result: Worked}) // what is known has to do
	link.Heal()
	if !alone.link.awaitUp(t.Context(), 10*time.Second) {
		t.Fatal("the connection does not come back")
	}
	if open := alone.refused("small"); open.State != Open { // its very first call
		t.Errorf("refused with %v", open)
	}
}

func TestTheVerdictOfAProbeIsStoredAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := setup(t)
	link := brokertest.Proxy(t, s.url)
	alone, other := s.replicaAt("alone", link.URL()), s.replica("other")
	alone.breaks()
	other.sees(small, Open)
	s.clock.forward(halfOpenAfter)
	p := alone.enter("small")
	other.sees(small, HalfOpen)
	link.Cut()
	alone.loses()
	p.Done(Verdict{Result: Worked})
	if open := alone.refused("small"); open.State != HalfOpen {
		t.Errorf("not stored, it is not closed: %v", open)
	}
	link.Heal()
	s.storedAs(small, Closed)
	other.sees(small, Closed)
	alone.seesBack(small, Closed)
}

func TestClocksThatDifferDoNotMatter(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.model.Settings.HalfOpenAfter = time.Minute
	a, behind, ahead := s.replica("a"), s.idle("behind", s.url), s.idle("ahead", s.url)
	behind.now, ahead.now = s.clock.skewed(-time.Hour), s.clock.skewed(time.Hour)
	for _, r := range []*replica{behind, ahead} {
		r.run()
		r.synced()
	}
	a.breaks()
	for _, r := range []*replica{behind, ahead} {
		r.sees(small, Open)
		if open := r.refused("small"); !open.Until.Equal(r.now().Add(time.Minute)) {
			t.Errorf("open until %s by a clock that shows %s", open.Until, r.now())
		}
	}
	// Found at the start, a record holds at most as long as it was meant to.
	late := s.idle("late", s.url)
	late.now = behind.now
	if open := late.refused("small"); !open.Until.Equal(late.now().Add(time.Minute)) {
		t.Errorf("found, open until %s by a clock that shows %s", open.Until, late.now())
	}
	s.clock.forward(time.Minute - 1)
	for _, r := range []*replica{a, behind, ahead, late} {
		r.refused("small")
	}
	s.clock.forward(1)
	for _, r := range []*replica{a, behind, ahead, late} {
		if !r.Look("small").ProbeDue {
			t.Error("no probe is due")
		}
	}
	p := ahead.enter("small")
	behind.sees(small, HalfOpen)
	s.clock.forward(s.model.lease() - 1)
	if open := behind.refused("small"); open.State != HalfOpen || !open.Until.Equal(behind.now().Add(1)) {
		t.Errorf("the lease by another clock: %v until %s", open, open.Until)
	}
	p.Done(Verdict{Result: Worked})
	behind.sees(small, Closed)
}

func TestARecordThatCannotBeReadIsClosedAndIsOverwritten(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	for i, garbage := range []string{"{", `{"state":"ajar"}`} {
		before := r.known(small).revision
		stored, err := s.conn.Record(t.Context(), "llm_breakers", small.Key())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.conn.Swap(t.Context(), "llm_breakers", small.Key(), []byte(garbage), stored.Revision); err != nil {
			t.Fatal(err)
		}
		brokertest.Eventually(t, time.Second, "it is seen", func() bool { return r.known(small).revision > before })
		if !r.Look("small").Ready {
			t.Fatalf("garbage %d is not closed", i)
		}
		all, err := List(t.Context(), s.conn)
		if err != nil || len(all) != 1 || all[0].Record.State != Closed || all[0].Record.Why == "" {
			t.Errorf("listed %+v, %v", all, err)
		}
		r.breaks()
		s.overwritten(small)
		r.sees(small, Open)
	}
}

// overwritten waits until what is stored can be read, and is open.
func (s *bundle) overwritten(c Circuit) {
	s.t.Helper()
	brokertest.Eventually(s.t, 5*time.Second, "the record is overwritten", func() bool {
		stored, err := s.conn.Record(s.t.Context(), "llm_breakers", c.Key())
		if err != nil {
			return false
		}
		r, err := decode(stored.Data)
		return err == nil && r.State == Open
	})
}

func TestAStoreThatWasReplacedByAnOlderOneIsBelieved(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: t.TempDir(), Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s := setupAt(t, server.URL())
	r := s.replica("a")
	r.breaks()
	s.storedAs(small, Open)
	server.Stop()
	r.loses()
	brokertest.StartServer(t, embedded.Options{Port: portOf(t, s.url), Store: t.TempDir(), Sync: time.Second})
	fresh := setupAt(t, s.url)
	r.seesBack(small, Closed)
	r.breaks()
	if got := fresh.storedAs(small, Open); got.Epoch != 1 {
		t.Errorf("stored %+v", got)
	}
}
