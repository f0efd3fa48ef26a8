package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rivo/uniseg"
	"golang.org/x/term"

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

// sketch shows the drafts of one request while its result is waited for: with --json as they came; else on
// standard error, for standard output holds the result alone. On a terminal that is one line, which is drawn
// anew and gone when the result comes.
type sketch struct {
	g     *globals
	shown job.Shown
	drawn bool
}

// take shows a draft, if it is news.
func (s *sketch) take(data []byte) error {
	if s.g.cli.JSON {
		return s.g.printRaw(data)
	}
	d := job.Draft{}
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("decode a draft: %w", err)
	}
	text := s.said(&d)
	switch {
	case text == "":
	case d.Event == job.DraftPart && isTerminal(s.g.stderr):
		fmt.Fprintf(s.g.stderr, "\r\x1b[K%s", tail("draft: "+text, widthOf(s.g.stderr)-1))
		s.drawn = true
	case d.Event == job.DraftPart:
		s.g.note("draft: %s", tail(text, maxShown))
	default:
		s.clear()
		s.g.note("%s", text)
	}
	return nil
}

// said is what a draft says to a person; "": nothing.
func (s *sketch) said(d *job.Draft) string {
	if !s.shown.Take(*d) {
		return ""
	}
	if d.Event == job.DraftPart {
		return oneLine(s.shown.Text) + oneLine(telling(s.shown.Partial))
	}
	return happened(d)
}

// clear takes the line away, before something else is written.
func (s *sketch) clear() {
	if s.drawn {
		fmt.Fprint(s.g.stderr, "\r\x1b[K")
		s.drawn = false
	}
}

// rest shows what has come, and takes the line away: the result is next.
func (s *sketch) rest(drafts <-chan *nats.Msg) error {
	defer s.clear()
	for {
		select {
		case m := <-drafts:
			if err := s.take(m.Data); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// draftLine is a draft of any request in one line, for who watches them all; "": there is nothing in it.
func draftLine(d *job.Draft, now time.Time) string {
	said := d.Text + telling(d.Partial)
	if d.Event != job.DraftPart {
		said = happened(d)
	}
	if said == "" {
		return ""
	}
	return now.Local().Format(time.TimeOnly) + "  " + strings.Join([]string{"  draft", d.Task, d.ID, tail(oneLine(said), maxShown)}, "  ")
}

// happened says what a draft is that brings no part of an answer.
func happened(d *job.Draft) string {
	switch {
	case d.Event == job.DraftRestarted:
		return "another try begins"
	case d.Code != "":
		return "retracted: " + oneLine(string(d.Code))
	}
	return "retracted"
}

// telling is a partial value that says something.
func telling(partial json.RawMessage) string {
	if text := string(partial); text != "{}" && text != "[]" {
		return text
	}
	return ""
}

// maxShown is how wide a draft is shown where there is no terminal: its end, where it grows.
const maxShown = 160

// widthOf is how wide a terminal is.
func widthOf(w io.Writer) int {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// tail is the end of a text, at most so many columns wide.
func tail(s string, columns int) string {
	const more = "…"
	if uniseg.StringWidth(s) <= columns {
		return s
	}
	graphemes := uniseg.NewGraphemes(s)
	var begins, widths []int
	for graphemes.Next() {
		begin, _ := graphemes.Positions()
		begins, widths = append(begins, begin), append(widths, graphemes.Width())
	}
	from, room := len(s), columns-1
	for i := len(begins) - 1; i >= 0 && widths[i] <= room; i-- {
		from, room = begins[i], room-widths[i]
	}
	return more + s[from:]
}
