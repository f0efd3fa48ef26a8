package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Bounds of one pull of dead letters: memory, not speed.
const (
	pullLetters   = 256
	pullBytes     = 16 << 20
	quietLetters  = 2 * time.Second
	patientQuiets = 5
	// subjectsAtOnce bounds the filter of one consumer.
	subjectsAtOnce = 100
)

// errEnough ends readLetters before the last letter.
var errEnough = errors.New("enough")

// readLetters calls each for every dead letter on the subjects, the oldest first, as they are stored now.
// since, above 0, leaves out what is older.
func readLetters(ctx context.Context, conn *broker.Conn, subjects []string, since time.Duration, each func(*letter) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: subjects}
	if since > 0 {
		start := time.Now().Add(-since)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := conn.JS.OrderedConsumer(asking, broker.DeadStream, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", broker.DeadStream, unanswerable(err))
	}
	if c.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullLetters, pullBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", broker.DeadStream, err)
	}
	defer messages.Stop()
	for {
		m, err := nextLetter(ctx, c, messages)
		if err != nil || m == nil {
			return err
		}
		l, pending, err := readLetter(m)
		if err != nil {
			return err
		}
		if err := each(l); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
		if pending == 0 {
			return nil
		}
	}
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

// nextLetter returns the next message; nil when those that were to come are gone.
func nextLetter(ctx context.Context, c jetstream.Consumer, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for quiets := 0; ; quiets++ {
		waiting, cancel := context.WithTimeout(ctx, quietLetters)
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, context.DeadlineExceeded) || quiets == patientQuiets {
			return nil, fmt.Errorf("read %s: %w", broker.DeadStream, err)
		}
		if info, err := c.Info(ctx); err == nil && info.NumPending == 0 {
			return nil, nil
		}
	}
}

func readLetter(m jetstream.Msg) (*letter, uint64, error) {
	md, err := m.Metadata()
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", broker.DeadStream, err)
	}
	l := &letter{
		task: broker.Token(m.Subject(), 3), id: broker.Token(m.Subject(), 4), sequence: md.Sequence.Stream, stored: md.Timestamp,
	}
	if err := json.Unmarshal(m.Data(), l); err != nil {
		// Listed all the same: it can be looked at with any NATS client, and removed.
		l.Stage, l.Code, l.Message = broker.Token(m.Subject(), 2), fate.Undecodable, "not a dead letter: "+err.Error()
	}
	return l, md.NumPending, nil
}
