package main

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// letter is what a list shows of a dead letter: not its prompts and inputs.
type letter struct {
	Stage    string    `json:"stage"`
	Code     fate.Code `json:"code"`
	Message  string    `json:"message"`
	Degraded bool      `json:"degraded"`
	Job      *struct {
		Run     int       `json:"run"`
		Minimal bool      `json:"minimal"`
		Usage   job.Usage `json:"usage"`
		CostUSD float64   `json:"cost_usd"`
	} `json:"job"`

	id, task string
	sequence uint64
	stored   time.Time
}

func (l *letter) run() int {
	if l.Job == nil {
		return 0
	}
	return max(l.Job.Run, 1)
}

// row is a letter as --json lists it.
func (l *letter) row() map[string]any {
	row := map[string]any{
		"id": l.id, "task": l.task, "stage": l.Stage, "code": l.Code, "message": l.Message, "run": l.run(),
		"degraded": l.Degraded, "at": l.stored.UTC(), "sequence": l.sequence,
	}
	if l.Job != nil {
		row["cost_usd"], row["calls"] = l.Job.CostUSD, l.Job.Usage.Calls
	}
	return row
}

// subjectsAtOnce bounds the filter of one consumer.
const subjectsAtOnce = 100

// readLetters calls each for every dead letter on the subjects, the oldest first, as they are stored now.
// since, above 0, leaves out what is older.
func readLetters(ctx context.Context, conn *broker.Conn, subjects []string, since time.Duration, each func(*letter) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: subjects}
	if since > 0 {
		start := time.Now().Add(-since)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	return browse(ctx, conn, broker.DeadStream, cfg, func(m jetstream.Msg, md *jetstream.MsgMetadata) error { return each(readLetter(m, md)) })
}

// lettersOf calls each for every dead letter of the ids.
func lettersOf(ctx context.Context, conn *broker.Conn, ids []string, each func(*letter) error) error {
	var subjects []string
	for _, id := range ids {
		subjects = append(subjects, broker.AnyDead(id))
	}
	slices.Sort(subjects)
	for some := range slices.Chunk(slices.Compact(subjects), subjectsAtOnce) {
		if err := readLetters(ctx, conn, some, 0, each); err != nil {
			return err
		}
	}
	return nil
}

func readLetter(m jetstream.Msg, md *jetstream.MsgMetadata) *letter {
	l := &letter{
		task: broker.Token(m.Subject(), 3), id: broker.Token(m.Subject(), 4), sequence: md.Sequence.Stream, stored: md.Timestamp,
	}
	if err := json.Unmarshal(m.Data(), l); err != nil {
		// Listed all the same: it can be looked at with any NATS client, and removed.
		l.Stage, l.Code, l.Message = broker.Token(m.Subject(), 2), fate.Undecodable, "not a dead letter: "+err.Error()
	}
	return l
}
