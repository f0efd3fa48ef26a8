package fakellm

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxBody is the longest request that is read.
const maxBody = 64 << 20

// The largest buffers that are kept: of requests, which are held while they are read, and of answers, which
// are held as long as their call.
const (
	maxBodyBuffer = 1 << 20
	maxOutBuffer  = 2 * writeAt
)

// call is one chat completion on its way.
type call struct {
	*Server
	w       http.ResponseWriter
	r       *http.Request
	started time.Time

	req   chatRequest
	key   string
	trace string
	// isAzure is true on the path of a deployment.
	isAzure      bool
	talk         dialogue
	doc          *document // the schema that the answer is to satisfy; nil: none
	entry        entry
	fault        Fault
	id           string
	usage        Usage // what SetUsage wants said
	promptTokens int
	// first and perToken are this call's latency.
	first, perToken time.Duration

	// out gathers what is to be written next.
	out *bytes.Buffer
	// timer is the call's only one; nil before its first pause.
	timer *time.Timer
	// cut is true once the client left, or the server closed, before the end of the answer.
	cut bool
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) { s.serveChat(w, r, "") }

func (s *Server) azureChat(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("api-version") == "" {
		e := &apiError{status: http.StatusNotFound, Message: "Resource not found", Code: "404"}
		e.write(w)
		return
	}
	s.serveChat(w, r, r.PathValue("deployment"))
}

func (s *Server) serveChat(w http.ResponseWriter, r *http.Request, deployment string) {
	c := &call{Server: s, w: w, r: r, key: apiKey(r.Header), isAzure: deployment != ""}
	refused, err := c.receive(deployment)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "request entity too large", http.StatusRequestEntityTooLarge)
		}
		return // else the client left while it was sending: no call began
	}
	outcome := OutcomeRejected
	switch {
	case refused != nil:
		c.setHeaders()
		refused.write(w)
	case c.entry.limited != nil:
		outcome = OutcomeLimited
		c.entry.limited.sayRetryAfter(w.Header())
		c.setHeaders()
		c.entry.limited.error(c.req.Model).write(w)
	default:
		outcome = c.play()
	}
	gone := c.cut && !s.isClosed()
	s.ledger.end(&c.entry, outcome, gone)
	s.opts.Log.Debug().Str("model", c.req.Model).Str("id", c.id).Str("outcome", outcome).Bool("disconnected", gone).Msg("answered a call")
}

func buffers() sync.Pool { return sync.Pool{New: func() any { return new(bytes.Buffer) }} }

func borrow(from *sync.Pool) *bytes.Buffer {
	b, _ := from.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

// giveBack keeps a buffer for another call, unless a rare long one made it large.
func giveBack(to *sync.Pool, b *bytes.Buffer, most int) {
	if b.Cap() <= most {
		to.Put(b)
	}
}

// receive reads the request and begins the call. It returns why the call is refused, if so. The request's
// bytes are given back at the end: thousands of calls may take seconds after it.
func (c *call) receive(deployment string) (*apiError, error) {
	body := borrow(&c.bodies)
	defer giveBack(&c.bodies, body, maxBodyBuffer)
	if _, err := body.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, maxBody)); err != nil {
		return nil, err
	}
	return c.begin(body.Bytes(), deployment), nil
}

// begin understands the request and enters the call into the ledger. It returns why the call is rejected, if
// it is.
func (c *call) begin(body []byte, deployment string) *apiError {
	rejected := c.read(body, deployment)
	if rejected == nil {
		c.usage = c.plan.usage(c.req.Model)
		c.promptTokens = c.countPrompt(body)
		c.trace = traceID(c.r.Header.Get("Traceparent"))
		c.talk = readDialogue(c.req.Messages, c.memory, c.trace)
	}
	c.entry = c.ledger.begin(arrival{
		path: c.r.URL.Path, model: c.req.Model, key: c.key, header: c.r.Header, body: body,
		nonce: c.talk.nonce, promptTokens: c.promptTokens, maxTokens: c.req.maxTokens(), rejected: rejected != nil,
	})
	c.started = c.entry.at
	if rejected == nil && c.entry.limited == nil {
		id := append(appendNonce([]byte("chatcmpl-"), c.talk.nonce), '-')
		c.id = string(strconv.AppendUint(id, c.entry.n, 10))
		c.first, c.perToken = c.latency.Load().draw(c.opts.Seed ^ scramble(c.talk.nonce+uint64(c.entry.number)))
		c.fault = c.plan.strike(trial{model: c.req.Model, key: c.key, input: c.talk.input, nonce: c.talk.nonce, number: c.entry.number})
		if c.fault.Kind != KindOK {
			c.ledger.struck(c.entry.n, c.fault.Kind)
		}
	}
	return rejected
}

// read decodes the request, and returns what is wrong with it.
func (c *call) read(body []byte, deployment string) (refused *apiError) {
	c.req, refused = decodeChat(body, deployment)
	if !c.admitsKey(c.key) {
		return wrongKey()
	}
	if refused != nil {
		return refused
	}
	if !c.hasModel(c.req.Model) {
		return noSuchModel(c.req.Model)
	}
	var err error
	if c.doc, err = c.schemas.wanted(&c.req); err != nil {
		return invalidRequest("Invalid schema for response_format: "+err.Error(), "response_format", "invalid_json_schema")
	}
	return nil
}

// play answers the call as its fault has it, and returns the outcome to count.
func (c *call) play() string {
	if e := statusError(c.fault, c.req.Model); e != nil {
		sayRetryAfter(c.w.Header(), c.fault, time.Now())
		c.setHeaders()
		e.write(c.w)
		return c.fault.Kind
	}
	answer := c.manner()
	c.forget()
	c.out = borrow(&c.outs)
	defer giveBack(&c.outs, c.out, maxOutBuffer)
	answer()
	if c.cut && c.fault.Kind == KindOK {
		if c.isClosed() {
			return OutcomeClosed
		}
		return OutcomeDisconnected
	}
	return c.fault.Kind
}

// manner returns how the call is to be answered, with all that takes from the request.
func (c *call) manner() func() {
	switch {
	case c.fault.Kind == KindHang:
		return func() { c.holdForever(0) }
	case c.fault.Kind == KindReset && c.fault.After == 0:
		return c.resetConnection
	case c.fault.Kind == KindHTML:
		return func() { c.playBody("text/html; charset=utf-8", loginPage) }
	case c.fault.Kind == KindErrorBody, c.fault.Kind == KindErrorChunk && !c.req.Stream:
		return func() { c.playBody(contentJSON, upstreamError) }
	}
	a := c.compose()
	if c.req.Stream {
		return func() { c.stream(a) }
	}
	return func() { c.plain(a) }
}

// forget lets go of the prompt: of many calls that wait at once, it is the most.
func (c *call) forget() {
	c.req.Messages, c.req.ResponseFormat.JSONSchema.Schema = nil, nil
	c.talk.input = ""
}

// countPrompt returns what the usage says of the prompt.
func (c *call) countPrompt(body []byte) int {
	switch {
	case c.usage.Input > 0:
		return c.usage.Input
	case c.opts.PromptTokens != nil:
		return c.opts.PromptTokens(body)
	}
	return c.req.promptTokens()
}

// answerTokens returns what the usage says of the answer.
func (c *call) answerTokens(a answer) int { return cmp.Or(c.usage.Output, countTokens(a.text())) }

func (c *call) playBody(contentType, body string) {
	if !c.pause(c.first) {
		return
	}
	c.setHeaders()
	c.w.Header().Set("Content-Type", contentType)
	c.out.WriteString(body)
	c.write()
}

// pause waits for d. It returns false when the call is over before.
func (c *call) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	if c.timer == nil {
		c.timer = time.NewTimer(d)
	} else {
		c.timer.Reset(d)
	}
	select {
	case <-c.timer.C:
		return true
	case <-c.r.Context().Done():
		c.timer.Stop()
		c.cut = true
		return false
	}
}

// holdForever says nothing, or with every above 0 a comment at that rhythm, until the client leaves or
// the server closes.
func (c *call) holdForever(every time.Duration) {
	if every <= 0 {
		<-c.r.Context().Done()
		c.cut = true
		return
	}
	for c.pause(every) {
		c.out.WriteString(comment)
		if !c.flush() {
			return
		}
	}
}

// write sends what was gathered. It returns false when nobody takes it.
func (c *call) write() bool {
	_, err := c.w.Write(c.out.Bytes())
	c.out.Reset()
	c.cut = c.cut || err != nil
	return err == nil
}

// flush is write, and the bytes leave now.
func (c *call) flush() bool {
	if !c.write() {
		return false
	}
	err := http.NewResponseController(c.w).Flush()
	c.cut = c.cut || err != nil
	return err == nil
}

// lingerer is the part of *net.TCPConn that turns a close into an RST.
type lingerer interface{ SetLinger(seconds int) error }

// resetConnection closes the connection so that the client's kernel reports a reset.
func (c *call) resetConnection() {
	c.ledger.settle(&c.entry, 0) // the client may be back before this call is over
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http then at least closes the connection
	}
	if tcp, ok := conn.(lingerer); ok {
		_ = tcp.SetLinger(0) // it fails only on a connection that is gone already
	}
	_ = conn.Close()
}
