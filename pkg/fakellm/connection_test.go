package fakellm_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

func TestAResetIsSeenAsAReset(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.Script("m", fakellm.Fault{Kind: "reset"}, fakellm.Fault{Kind: "reset", After: 2}, fakellm.Fault{Kind: "reset", After: 1})
	response, err := b.send(t, b.ctx, ask("hello", nil))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("before any byte: %v, %v", response, err)
	}
	for _, stream := range []bool{true, false} {
		r := b.chat(t, ask("hello", object{"stream": stream}))
		if !errors.Is(r.err, syscall.ECONNRESET) && !errors.Is(r.err, io.ErrUnexpectedEOF) {
			t.Errorf("stream %v: in the middle: %v", stream, r.err)
		}
		equal(t, "status", r.status, 200)
		if stream {
			equal(t, "content before the reset", len(readEvents(r.body).content), 8)
		}
	}
}

// left waits until the server saw its client leave.
func (b *bundle) left(t *testing.T, clients int) {
	t.Helper()
	if err := b.Await(b.ctx, func(c fakellm.Counts) bool { return c.Disconnects == clients }); err != nil {
		t.Fatalf("the server did not see %d clients leave: %+v", clients, b.Counts())
	}
}

func TestAHangSendsNothingUntilTheClientLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "hang"}}})
	ctx, leave := context.WithCancel(b.ctx)
	answered := make(chan error, 1)
	go func() {
		response, err := b.send(t, ctx, ask("hello", nil))
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	if err := b.Await(b.ctx, func(c fakellm.Counts) bool { return c.InFlight == 1 }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answered:
		t.Fatalf("a hang answered: %v", err)
	default:
	}
	leave()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	b.left(t, 1)
	equal(t, "outcome", b.Counts().Outcomes["hang"], 1)
}

// readUntil reads a body up to some text, then leaves.
func (b *bundle) readUntil(t *testing.T, body object, text string) string {
	t.Helper()
	ctx, leave := context.WithCancel(b.ctx)
	defer leave()
	response, err := b.send(t, ctx, body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	equal(t, "status", response.StatusCode, http.StatusOK)
	var got strings.Builder
	piece := make([]byte, 64)
	for !strings.Contains(got.String(), text) {
		n, err := response.Body.Read(piece)
		got.Write(piece[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
	}
	return got.String()
}

func TestSilenceComesAfterTheTokensThatWereAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.Script("m", fakellm.Fault{Kind: "silence"}, fakellm.Fault{Kind: "silence", After: 3, Every: time.Millisecond}, fakellm.Fault{Kind: "silence"})
	got := b.readUntil(t, ask("hello", object{"stream": true}), `"This"},"logprobs":null,"finish_reason":null}]}`+"\n")
	equal(t, "first token", readEvents(got).content, "This")
	b.left(t, 1)
	got = b.readUntil(t, ask("hello", object{"stream": true}), comment+comment+comment)
	equal(t, "tokens before the comments", readEvents(got).content, "This is a si")
	b.left(t, 2)
	b.readUntil(t, ask("hello", nil), `"model"`)
	b.left(t, 3)
}

const comment = ": PROCESSING\n\n"

func TestHangingAfterTheHeadersShowsStatus200AndPerhapsComments(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.Script("m", fakellm.Fault{Kind: "hang_headers"}, fakellm.Fault{Kind: "hang_headers", Every: time.Millisecond}, fakellm.Fault{Kind: "hang_headers"})
	b.readUntil(t, ask("hello", object{"stream": true}), "")
	b.left(t, 1)
	equal(t, "no token", readEvents(b.readUntil(t, ask("hello", object{"stream": true}), comment+comment)).chunks, 0)
	b.left(t, 2)
	b.readUntil(t, ask("hello", nil), "")
	b.left(t, 3)
}

func TestADripTakesItsTimeForEachChunk(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "drip", Every: 3 * time.Millisecond}}})
	b.SetAnswer("m", strings.Repeat("four", 10))
	for _, stream := range []bool{true, false} {
		start := time.Now()
		r := b.chat(t, ask("x", object{"stream": stream}))
		if took := time.Since(start); took < 27*time.Millisecond {
			t.Errorf("stream %v: 10 chunks took %v", stream, took)
		}
		content := readEvents(r.body).content
		if !stream {
			content = r.content(t)
		}
		equal(t, "content", content, strings.Repeat("four", 10))
	}
}
