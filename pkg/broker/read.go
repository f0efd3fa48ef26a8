package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/job"
)

// Stored is a message as the leader of its stream has it.
type Stored struct {
	Subject  string
	Sequence uint64
	At       time.Time
	Header   textproto.MIMEHeader
	Data     []byte
}

// readTimeout bounds one request for a stored message; the reads repeat it until their ctx ends.
const readTimeout = 3 * time.Second

// Last reads the newest message on subject (which may have wildcards) from the leader of the stream: what
// decides is never read from a replica. ErrNotFound when there is none.
func (c *Conn) Last(ctx context.Context, stream, subject string) (*Stored, error) {
	return c.read(ctx, stream, subject, map[string]any{"last_by_subj": subject})
}

// First does for the oldest one.
func (c *Conn) First(ctx context.Context, stream, subject string) (*Stored, error) {
	return c.Next(ctx, stream, subject, 1)
}

// Next does for the oldest one with this sequence or a later one.
func (c *Conn) Next(ctx context.Context, stream, subject string, from uint64) (*Stored, error) {
	return c.read(ctx, stream, subject, map[string]any{"seq": from, "next_by_subj": subject})
}

func (c *Conn) read(ctx context.Context, stream, subject string, which map[string]any) (*Stored, error) {
	ask, err := json.Marshal(which)
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		stored, err := c.readOnce(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
		if err == nil || errors.Is(err, ErrNotFound) {
			return stored, err
		}
		if ctx.Err() != nil || !isPassing(err) {
			return nil, fmt.Errorf("read %s from %s: %w", subject, stream, err)
		}
		if n == 4 {
			c.log.Warn().Err(err).Str("subject", subject).Str("stream", stream).Msg("JetStream does not answer a read (may this user ask?), repeating")
		}
		if pause(ctx, n) != nil {
			return nil, fmt.Errorf("read %s from %s: %w", subject, stream, context.Cause(ctx))
		}
	}
}

func (c *Conn) readOnce(ctx context.Context, api string, ask []byte) (*Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	reply, err := c.NC.RequestWithContext(ctx, api, ask)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, fmt.Errorf("decode the server's answer: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, ErrNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, ErrNotFound
	}
	m := answer.Message
	return &Stored{Subject: m.Subject, Sequence: m.Seq, At: m.Time, Header: parseHeader(m.Header), Data: m.Data}, nil
}

// parseHeader reads a NATS header block: a version line, then key: value lines.
func parseHeader(block []byte) textproto.MIMEHeader {
	h := textproto.MIMEHeader{}
	for i, line := range strings.Split(string(block), "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if i > 0 && ok {
			h[key] = append(h[key], strings.TrimSpace(value))
		}
	}
	return h
}

// Marker reads an id's marker and its sequence. ErrNotFound: the id was never admitted, or long ago.
func (c *Conn) Marker(ctx context.Context, id string) (*job.Marker, uint64, error) {
	stored, err := c.Last(ctx, AdmittedStream, AdmittedSubject(id))
	if err != nil {
		return nil, 0, err
	}
	m := &job.Marker{}
	if err := json.Unmarshal(stored.Data, m); err != nil {
		return nil, 0, fmt.Errorf("decode the marker of %s: %w", id, err)
	}
	return m, stored.Sequence, nil
}

// Result reads the stored result of an id; an empty task reads it whatever its task.
func (c *Conn) Result(ctx context.Context, task, id string) (*job.Result, uint64, error) {
	subject := AnyTaskResult(id)
	if task != "" {
		subject = ResultSubject(task, id)
	}
	stored, err := c.Last(ctx, ResultsStream, subject)
	if err != nil {
		return nil, 0, err
	}
	r := &job.Result{}
	if err := json.Unmarshal(stored.Data, r); err != nil {
		return nil, 0, fmt.Errorf("decode the result of %s: %w: %w", id, ErrUnreadable, err)
	}
	return r, stored.Sequence, nil
}

// ResultRun returns the run of an id's stored result; 0: there is none.
func (c *Conn) ResultRun(ctx context.Context, task, id string) (int, error) {
	stored, err := c.Last(ctx, ResultsStream, ResultSubject(task, id))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return RunOf(stored.Header), nil
}

// RunOf returns the run that a message's headers name; 1 when they name none.
func RunOf(h map[string][]string) int {
	if values := h[RunHeader]; len(values) > 0 {
		if run, err := strconv.Atoi(values[0]); err == nil {
			return run
		}
	}
	return 1
}

// Dead reads the newest dead letter of an id and its sequence.
func (c *Conn) Dead(ctx context.Context, id string) (*job.Letter, *Stored, error) {
	stored, err := c.Last(ctx, DeadStream, AnyDead(id))
	if err != nil {
		return nil, nil, err
	}
	l := &job.Letter{}
	if err := json.Unmarshal(stored.Data, l); err != nil {
		return nil, nil, fmt.Errorf("dead letter of %s: %w: %w", id, ErrUnreadable, err)
	}
	return l, stored, nil
}

// SubjectsOf lists the subjects under filter on which a stream holds messages; none when there is no such stream.
func (c *Conn) SubjectsOf(ctx context.Context, stream, filter string) ([]string, error) {
	s, err := c.JS.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("look at the subjects of %s: %w", stream, err)
	}
	return slices.Sorted(maps.Keys(info.State.Subjects)), nil
}

// Delete removes one message of a stream. A message that is gone already is no error.
func (c *Conn) Delete(ctx context.Context, stream string, sequence uint64) error {
	ask, err := json.Marshal(map[string]any{"seq": sequence, "no_erase": true})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		err := c.deleteOnce(ctx, stream, ask)
		if err == nil || !isPassing(err) {
			return err
		}
		if pause(ctx, n) != nil {
			return context.Cause(ctx)
		}
	}
}

func (c *Conn) deleteOnce(ctx context.Context, stream string, ask []byte) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	reply, err := c.NC.RequestWithContext(ctx, "$JS.API.STREAM.MSG.DELETE."+stream, ask)
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("decode the server's answer: %w", err)
	}
	if e := answer.Error; e != nil && e.ErrorCode != jetstream.JSErrCodeMessageNotFound && e.ErrorCode != codeDeleteFailed {
		return e
	}
	return nil
}
