package main

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// draftsOf subscribes to the drafts of a request that is not published yet.
func draftsOf(conn *broker.Conn, task, id string) (chan *nats.Msg, error) {
	drafts := make(chan *nats.Msg, watchBuffer)
	subject := broker.DeltaSubject(task, id)
	if _, err := conn.NC.ChanSubscribe(subject, drafts); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return drafts, nil
}

func isDraft(m *nats.Msg) bool {
	return m.Subject == broker.DeltaSubject(broker.Token(m.Subject, 2), broker.Token(m.Subject, 3))
}

// maxShown is how much of a draft is shown to a person, in bytes: its end, where it grows.
const maxShown = 160

// draft prints what a model said so far: with --json as it came, else on standard error, for standard output
// holds results alone.
func (g *globals) draft(data []byte) error {
	if g.cli.JSON {
		return g.printRaw(data)
	}
	d := &job.Draft{}
	if err := json.Unmarshal(data, d); err != nil {
		return fmt.Errorf("decode a draft: %w", err)
	}
	switch {
	case d.Event == job.DraftRetracted:
		g.note("%s  retracted: %s", d.ID, d.Code)
	case d.Event == job.DraftRestarted:
		g.note("%s  another try begins", d.ID)
	case d.Partial != nil:
		g.note("%s  draft: %s", d.ID, oneLine(tail(string(d.Partial), maxShown)))
	default:
		g.note("%s  draft: %s", d.ID, oneLine(tail(d.Text, maxShown)))
	}
	return nil
}

// tail is the end of a text, at most limit bytes of it, at a character's border.
func tail(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	begin := len(s) - limit
	for begin < len(s) && s[begin]&0xC0 == 0x80 {
		begin++
	}
	return "…" + s[begin:]
}
