package contextbuilder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// The bounds of the look for requests that were accepted before the job and are not admitted yet. Ingest takes many at
// once, in several processes; one that was killed gives its own back after broker.AckWait.
const (
	earlyReads = 64
	earlyFor   = broker.AckWait + 2*time.Second
)

// numbered is before the sequence up to which the look came: none is added below it, so the next begins there.
const numbered = ", number "

// awaitEarlier makes the job come back later while a request of its session that was accepted before it is not in the
// session's record: ingest may be still at it. Such a one is still in the request stream, for ingest writes the record
// before it acknowledges. So this looks before the record is read.
func (h *Handler) awaitEarlier(ctx context.Context, b *build) error {
	j := b.job
	_, hasWaited := awaited(j)
	if b.task.Context.Order != task.OneAtATime || j.Run > 1 || j.RequestSeq == 0 || j.Trouble != nil || hasWaited {
		return nil
	}
	why, err := h.early(ctx, j, lookedUpTo(j))
	if err != nil || why == "" {
		return err
	}
	if time.Since(j.AcknowledgedAt) < earlyFor {
		return fate.WaitFor(again(j), why)
	}
	b.note("accepted behind a request that is not admitted after %s, and not waited for any longer", earlyFor)
	b.early = len(b.notes)
	return nil
}

// lookedUpTo is where the look that the job comes back from ended.
func lookedUpTo(j *job.Job) uint64 {
	if e := waitOf(j); e != nil {
		if _, number, ok := strings.Cut(e.Detail, numbered); ok {
			if sequence, err := strconv.ParseUint(number, 10, 64); err == nil {
				return sequence
			}
		}
	}
	return 1
}

// early says what was accepted before the job, at a sequence or after it, and may be of its session; "": nothing.
func (h *Handler) early(ctx context.Context, j *job.Job, from uint64) (string, error) {
	stream, subject := broker.RequestStream(j.Lane), broker.RequestSubject(j.Lane, j.Task)
	for range earlyReads {
		m, err := h.conn.Next(ctx, stream, subject, from)
		switch {
		case errors.Is(err, broker.ErrNotFound):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("look for earlier requests of session %s: %w", j.Session, err)
		case m.Sequence >= j.RequestSeq:
			return "", nil
		case isOfSession(m, j):
			return fmt.Sprint("an earlier request of its session is being admitted", numbered, m.Sequence), nil
		}
		from = m.Sequence + 1
	}
	return fmt.Sprint("many earlier requests are being admitted", numbered, from), nil
}

// isOfSession reports whether a request is another one of the job's session.
func isOfSession(m *broker.Stored, j *job.Job) bool {
	var r struct {
		ID      string `json:"id"`
		Session string `json:"session"`
		Tenant  string `json:"tenant"`
	}
	if json.Unmarshal(m.Data, &r) != nil {
		return false // it will be rejected
	}
	if r.ID == "" {
		r.ID = m.Header.Get(broker.MsgIDHeader)
	}
	return r.Session == j.Session && r.Tenant == j.Tenant && r.ID != j.ID
}
