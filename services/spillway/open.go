package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// lookTimeout bounds the look for a stream before a command begins.
const lookTimeout = 3 * time.Second

// open connects a tool and looks for the streams that it needs: a request for a missing one would not be
// told from a broker that is away for a moment, and repeated in vain.
func (f natsFlags) open(ctx context.Context, g *globals, name string, streams ...string) (*broker.Conn, error) {
	conn, err := f.connect(g, name)
	if err != nil {
		return nil, err
	}
	for _, stream := range streams {
		if err := f.lookFor(ctx, conn, stream); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// lookFor fails only where it is certain: a user who may not ask for streams may still use them.
func (f natsFlags) lookFor(ctx context.Context, conn *broker.Conn, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := conn.JS.Stream(ctx, stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("the streams are not there (no %s at %s): start `spillway up` or run `spillway broker init`", stream, broker.RedactURLs(f.NATS))
	case hasNoJetStream(err):
		return f.noJetStream()
	}
	return nil
}

// hasNoJetStream reports whether err is the answer of a server without JetStream: none at all.
func hasNoJetStream(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount)
}

func (f natsFlags) noJetStream() error {
	return fmt.Errorf("the server at %s has no JetStream: start it with `nats-server -js`, or use `spillway up`", broker.RedactURLs(f.NATS))
}

// patience bounds one question to the broker: it is longer than an election. Who may not ask gets no answer.
const patience = 15 * time.Second

// last reads the newest message on a subject from the leader, with patience.
func last(ctx context.Context, conn *broker.Conn, stream, subject string) (*broker.Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stored, err := conn.Last(ctx, stream, subject)
	return stored, unanswerable(err)
}

// unanswerable adds to a timeout what is likely behind it.
func unanswerable(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (is JetStream well, and may this user do that?)", err)
	}
	return err
}

func isNotFound(err error) bool { return errors.Is(err, broker.ErrNotFound) }

// checkID refuses what can be no id, before it becomes part of a subject.
func checkID(id string) error {
	if !job.IsID(id) {
		return exit(exitUsage, "%q is not an id: ids match [A-Za-z0-9_-]{1,64}", job.Cut(id, 80))
	}
	return nil
}

// checkToken refuses what can be no token of a subject.
func checkToken(what, name string) error {
	if !job.IsID(name) {
		return exit(exitUsage, "%q is not the name of a %s", job.Cut(name, 80), what)
	}
	return nil
}

// printRaw writes stored JSON as one line, unchanged otherwise.
func (g *globals) printRaw(raw []byte) error {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return fmt.Errorf("print a message that is not JSON: %w", err)
	}
	line.WriteByte('\n')
	_, err := g.stdout.Write(line.Bytes())
	return err
}

// note tells the person beside the output.
func (g *globals) note(format string, args ...any) {
	fmt.Fprintf(g.stderr, "spillway: "+format+"\n", args...)
}

// quiet makes a reader that left (head, a pager) no failure.
func quiet(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
