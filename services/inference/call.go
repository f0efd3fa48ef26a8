package inference

import (
	"context"
	"io"
	"net/http"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/task"
)

// maxAnswer is where reading of an answer stops, in bytes.
const maxAnswer = 1 << 20

// call is one call to a model: what it is made from, and what came of it. One goroutine owns it.
type call struct {
	job      *job.Job
	task     *task.Task
	model    *task.Model
	provider *provider
	pace     pace
	started  time.Time
	// left is what the deadline leaves, less its reserve, at the start.
	left   time.Duration
	limits task.Timeouts
	watch  *watch
	// permit is the call's place within the limits, pass its leave of the breakers; nil: there are none.
	permit *limit.Permit
	pass   *breaker.Pass

	// key is the API key that was sent; otherKey is true when it was refused and another may be taken.
	key      string
	otherKey bool
	// sent is true once the request went to the transport. status is 0 until a response came.
	sent   bool
	status int
	header http.Header
	// body is the open stream; nil: the response is none.
	body io.ReadCloser
	// whole is the body that is no stream, cut at its limit; wholeErr says why it ended early.
	whole    []byte
	wholeErr error

	content    []byte
	refusal    []byte
	finish     string
	answeredBy string
	usage      usage
	// choices is true when some chunk held the answer, if only its role; done when the end mark came.
	choices, done bool
	malformed     int
	// heard are the bytes of text that came, in deltas; the first of them firstToken after the start.
	heard, deltas int
	firstToken    time.Duration

	// drafts are published while the model speaks; nil: they are not.
	drafts *drafts

	took time.Duration
	// ended is the cause that ended the call's context before its answer was complete; nil: none did.
	ended error
}

// run makes the call and returns nil when the model answered. It returns soon after ctx ends.
func (c *call) run(ctx context.Context) *failure {
	err := c.open(ctx)
	if c.body != nil {
		defer c.body.Close()
	}
	switch {
	case c.status == 0 && ctx.Err() != nil:
		return overrun(context.Cause(ctx))
	case c.status == 0:
		return c.unanswered(err)
	case !isSuccess(c.status):
		return c.refused()
	case c.body != nil:
		return c.readStream(ctx)
	}
	return c.readWhole(ctx)
}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// requestID is the provider's name for the call: what its support asks for.
func (c *call) requestID() string {
	for _, name := range []string{"X-Request-Id", "Request-Id", "Apim-Request-Id"} {
		if id := c.header.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// isProbe reports whether the call probes an open breaker.
func (c *call) isProbe() bool { return c.pass != nil && c.pass.Probe() }
