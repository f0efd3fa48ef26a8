package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/task"
)

// Model is a model whose calls pass through two circuits: its provider's and its own.
type Model struct {
	Name, Provider string
	Settings       task.Breaker
	// CallTimeout bounds a call: a probe that takes longer has died.
	CallTimeout time.Duration
}

// leaseSlack is what a probe may take beside its call: to be prepared, and to be stored.
const leaseSlack = 5 * time.Second

// lease is how long a probe is waited for.
func (m Model) lease() time.Duration { return max(m.CallTimeout+leaseSlack, m.Settings.HalfOpenAfter) }

// Options of New.
type Options struct {
	Conn *broker.Conn
	// Replica is unique to the process.
	Replica string
	Models  []Model
	Log     zerolog.Logger
	// Metrics is where they are registered; nil: nowhere.
	Metrics prometheus.Registerer
}

// Breakers are the circuits of a process. They are safe for concurrent use.
type Breakers struct {
	conn    *broker.Conn
	replica string
	log     zerolog.Logger
	metrics *metrics
	now     func() time.Time
	link    *link
	// models and circuits do not change after New.
	models   map[string]*member
	circuits map[string]*circuit
	kicked   chan struct{} // something is owed
	back     chan struct{} // the connection is
}

// member is a model with its circuits.
type member struct {
	Model
	circuits [places]*circuit
}

// New makes the circuits of the models. They are of use while Run runs.
func New(o Options) (*Breakers, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	b := &Breakers{
		conn: o.Conn, replica: o.Replica, log: o.Log, metrics: m, now: time.Now, link: newLink(o.Conn.NC.IsConnected()),
		models: map[string]*member{}, circuits: map[string]*circuit{},
		kicked: make(chan struct{}, 1), back: make(chan struct{}, 1),
	}
	var faults []error
	if o.Replica == "" {
		faults = append(faults, errors.New("the replica has no name"))
	}
	for _, m := range o.Models {
		faults = append(faults, b.add(m))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("prepare the breakers: %w", err)
	}
	return b, nil
}

func (b *Breakers) add(m Model) error {
	own, whole := Circuit{Kind: KindModel, Name: m.Name}, Circuit{Kind: KindProvider, Name: m.Provider}
	if err := errors.Join(own.check(), whole.check()); err != nil {
		return err
	}
	if b.models[m.Name] != nil {
		return fmt.Errorf("model %s is given twice", m.Name)
	}
	if m.Settings.HalfOpenAfter <= 0 {
		return fmt.Errorf("model %s would never be probed: half_open_after is %s", m.Name, m.Settings.HalfOpenAfter)
	}
	settings := m.Settings
	b.models[m.Name] = &member{Model: m, circuits: [places]*circuit{provider: b.circuit(whole, nil), model: b.circuit(own, &settings)}}
	return nil
}

func (b *Breakers) circuit(c Circuit, s *task.Breaker) *circuit {
	known := b.circuits[c.Key()]
	if known == nil {
		known = newCircuit(c, s, b.metrics.state.WithLabelValues(c.Kind, c.Name))
		b.circuits[c.Key()] = known
	}
	return known
}

// announce tells of a change that this replica made.
func (b *Breakers) announce(c *circuit, r Record) {
	b.metrics.changes.WithLabelValues(c.Kind, c.Name, string(r.State)).Inc()
	e, message := b.log.Info(), "a breaker closed"
	switch r.State {
	case Open:
		e, message = b.log.Warn(), "a breaker opened"
	case HalfOpen:
		message = "a breaker is half open"
	case Closed:
	}
	e.Str("kind", c.Kind).Str("name", c.Name).Str("state", string(r.State)).Str("why", r.Why).Time("until", r.Until).Msg(message)
	publish(b.conn, c.Circuit, r)
}

// signal wakes whoever reads from c, who looks for himself what there is to do.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (b *Breakers) kick() { signal(b.kicked) }
