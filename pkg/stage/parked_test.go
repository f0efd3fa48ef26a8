package stage

import (
	"context"
	"errors"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// A delivery of a stream that is stored anew begins to count again, long before it would look like poison.
func TestAJobThatIsHandedBackOftenIsStoredAnewNowAndThen(t *testing.T) {
	t.Parallel()
	own := broker.ParkedSubject(job.Interactive, "small")
	for name, row := range map[string]struct {
		deliveries int
		from       string
		again      *fate.Error
		handedBack bool
	}{
		"the first time":         {1, own, fate.ParkAgain(time.Second, fate.ProviderUnavailable, ""), true},
		"the last before half":   {7, own, fate.ParkAgain(time.Second, fate.ProviderUnavailable, ""), true},
		"half of what is poison": {8, own, fate.ParkAgain(time.Second, fate.ProviderUnavailable, ""), false},
		"more than half":         {15, own, fate.ParkAgain(time.Second, fate.ProviderUnavailable, ""), false},
		"a call was made":        {1, own, fate.ParkFor(time.Second, fate.ProviderUnavailable, "", nil), false},
		"it came from its lane":  {1, broker.StageSubject(broker.Inference, job.Interactive), fate.ParkAgain(time.Second, fate.ProviderUnavailable, ""), false},
	} {
		r := &Runner{def: Definition{Name: broker.Inference}}
		j := &job.Job{Lane: job.Interactive, Model: "small"}
		h := &held{deliveries: row.deliveries, arrival: job.Arrival{Subject: row.from}}
		m := r.park(h, j, row.again)
		switch {
		case m.handBack != row.handedBack:
			t.Errorf("%s: handed back %v", name, m.handBack)
		case row.handedBack && m.wait != time.Second:
			t.Errorf("%s: handed back for %s", name, m.wait)
		case !row.handedBack && (m.subject != own || m.to != broker.Inference || time.Until(j.NotBefore) < time.Second/2):
			t.Errorf("%s: stored anew on %q for %q, not before %s", name, m.subject, m.to, j.NotBefore)
		}
	}
}

// fine is a stage that finds nothing wrong.
type fine struct{}

func (fine) Handle(context.Context, *job.Job) error { return nil }

func TestTheDeliveryThatCameTooEarlyIsNotCountedAsATry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, row := range map[string]struct {
		deliveries int
		notBefore  time.Time
		poison     bool
	}{
		"as often as may be":            {16, time.Time{}, false},
		"too often":                     {17, time.Time{}, true},
		"one of them was too early":     {17, now, false},
		"too often, and once too early": {18, now, true},
	} {
		r := &Runner{def: Definition{Name: broker.Inference, FinishesLate: true}, handler: fine{}}
		err := r.judge(&job.Job{NotBefore: row.notBefore}, &held{deliveries: row.deliveries}, now)
		c, poison := errors.AsType[*crash](err)
		if poison != row.poison || poison && c.code != fate.TooManyDeliveries || !poison && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All inboxes of a process share a connection, which the server closes when too much is on its way.
func TestAnInboxIsNotSentMoreAtOnceThanAConnectionBears(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for name, row := range map[string]struct {
		holds, asked, want int // in messages of 1 MB
	}{
		"nothing is on its way":     {1, 0, 24},
		"half of it is":             {1, 12, 12},
		"all of it is":              {1, 24, 0},
		"much is held, none asked":  {400, 0, 24},
		"almost all that may be":    {500, 0, 12},
		"what is held is the limit": {512, 0, 0},
	} {
		p := &puller{slots: 1000, held: map[uint64]*held{}, inbox: Inbox{HeldBytes: 512 * mb}}
		for n := range row.holds {
			p.held[uint64(n)] = &held{}
			p.weigh(mb)
		}
		if got := p.room(row.asked); got != row.want {
			t.Errorf("%s: room for %d, want %d", name, got, row.want)
		}
	}
}
