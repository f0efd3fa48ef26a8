package stage

import (
	"context"
	"slices"
	"time"

	"spillway/pkg/broker"
)

// pull adds an inbox.
func (r *Runner) pull(in Inbox) *puller {
	slots := in.Slots
	if slots == 0 {
		slots = slotsOf(r.def)
	}
	var gate Gate
	if in.Gate != nil {
		gate = in.Gate(r.env)
	}
	p := newPuller(r.env.Conn, in, gate, slots, r.m, &r.inFlight, r.accept)
	r.pullers = append(r.pullers, p)
	return p
}

// makeTimeout bounds the making of one consumer: who may not gets no answer.
const makeTimeout = 30 * time.Second

// makeInbox makes the consumer of an inbox that is the stage's own to make.
func (r *Runner) makeInbox(ctx context.Context, p *puller) error {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	in := p.inbox
	return r.env.Conn.MakeInbox(ctx, broker.Source{Stage: r.def.Name, Stream: in.Stream, Subject: in.Subject, Consumer: in.Consumer})
}

// start pulls from all inboxes.
func (r *Runner) start(ctx context.Context) error {
	for _, p := range r.pullers {
		if p.made {
			if err := r.makeInbox(ctx, p); err != nil {
				return err
			}
		}
		if err := p.start(); err != nil {
			return err
		}
	}
	return nil
}

func inboxesOf(d Definition) []Inbox {
	if len(d.Inboxes) > 0 {
		return d.Inboxes
	}
	return Lanes(d.Name, slotsOf(d))
}

// inboxStreams names the streams that hold admitted jobs.
func inboxStreams(defs []Definition) []string {
	streams := []string{broker.ParkedStream}
	for _, d := range defs {
		for _, in := range inboxesOf(d) {
			if in.Stream == broker.StageStream(d.Name) && !slices.Contains(streams, in.Stream) {
				streams = append(streams, in.Stream)
			}
		}
	}
	return streams
}

// Topology is what the pipeline defs needs of the broker.
func Topology(defs []Definition, s broker.Sizing) broker.Topology {
	var stages []string
	var sources []broker.Source
	for _, d := range defs {
		stages = append(stages, d.Name)
		for _, in := range inboxesOf(d) {
			sources = append(sources, broker.Source{Stage: d.Name, Stream: in.Stream, Subject: in.Subject, Consumer: in.Consumer})
		}
	}
	return broker.NewTopology(stages, sources, s)
}
