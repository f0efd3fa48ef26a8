package fakellm

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// maxBody is the longest request that is read.
const maxBody = 64 << 20

// maxBuffer is the largest buffer that is kept.
const maxBuffer = 1 << 20

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
	promptTokens int
	// first and perToken are this call's latency.
	first, perToken time.Duration

	// out gathers what is to be written next.
	out *bytes.Buffer
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
	body, out := s.buffer(), s.buffer()
	defer s.release(body)
	defer s.release(out)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "request entity too large", http.StatusRequestEntityTooLarge)
		}
		return // else the client left while it was sending: no call began
	}
	c := &call{Server: s, w: w, r: r, started: time.Now(), out: out, key: apiKey(r.Header), isAzure: deployment != ""}
	refused := c.begin(body.Bytes(), deployment)
	outcome := OutcomeRejected
	if refused != nil {
		c.setHeaders()
		refused.write(w)
	} else {
		outcome = c.play()
	}
	gone := c.cut && !s.isClosed()
	s.ledger.end(c.entry, outcome, gone)
	s.opts.Log.Debug().Str("model", c.req.Model).Str("id", c.id).Str("outcome", outcome).Bool("disconnected", gone).Msg("answered a call")
}

func (s *Server) buffer() *bytes.Buffer {
	b, _ := s.buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

// release keeps a buffer for another call, unless a rare long one made it large.
func (s *Server) release(b *bytes.Buffer) {
	if b.Cap() <= maxBuffer {
		s.buffers.Put(b)
	}
}

// begin reads the request and enters the call into the ledger. It returns why the call is refused, if so.
func (c *call) begin(body []byte, deployment string) *apiError {
	refused := c.read(body, deployment)
	if refused == nil {
		c.promptTokens = c.req.promptTokens()
		c.trace = traceID(c.r.Header.Get("Traceparent"))
		c.talk = readDialogue(c.req.Messages, c.memory, c.trace)
	}
	c.entry = c.ledger.begin(arrival{
		path: c.r.URL.Path, model: c.req.Model, key: c.key, header: c.r.Header, body: body, at: c.started,
		nonce: c.talk.nonce, maxTokens: c.req.maxTokens(), rejected: refused != nil,
	})
	if refused == nil {
		id := append(appendNonce([]byte("chatcmpl-"), c.talk.nonce), '-')
		c.id = string(strconv.AppendUint(id, c.entry.n, 10))
		c.first, c.perToken = c.latency.Load().draw(c.opts.Seed ^ scramble(c.talk.nonce+uint64(c.entry.number)))
		c.fault = c.plan.strike(trial{model: c.req.Model, key: c.key, input: c.talk.input, nonce: c.talk.nonce, number: c.entry.number})
		if c.fault.Kind != KindOK {
			c.ledger.struck(c.entry.n, c.fault.Kind)
		}
	}
	return refused
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
		c.setHeaders()
		sayRetryAfter(c.w.Header(), c.fault, time.Now())
		e.write(c.w)
		return c.fault.Kind
	}
	switch {
	case c.fault.Kind == KindHang:
		c.holdForever(0)
	case c.fault.Kind == KindReset && c.fault.After == 0:
		c.resetConnection()
	case c.fault.Kind == KindHTML:
		c.playBody("text/html; charset=utf-8", loginPage)
	case c.fault.Kind == KindErrorBody, c.fault.Kind == KindErrorChunk && !c.req.Stream:
		c.playBody(contentJSON, upstreamError)
	default:
		a := c.compose()
		if c.req.Stream {
			c.stream(a)
		} else {
			c.plain(a)
		}
	}
	if c.cut && c.fault.Kind == KindOK {
		if c.isClosed() {
			return OutcomeClosed
		}
		return OutcomeDisconnected
	}
	return c.fault.Kind
}

func (c *call) playBody(contentType, body string) {
	if !c.pause(c.first) {
		return
	}
	c.setHeaders()
	c.w.Header().Set("Content-Type", contentType)
	c.out.WriteString(body)
	c.write()
}

// setHeaders sets what OpenAI sends with every answer.
func (c *call) setHeaders() {
	const requests, tokens = 10_000, 2_000_000
	h := c.w.Header()
	remaining, reset := max(1, requests-c.entry.inFlight), "6ms"
	if c.fault.Kind == KindRateLimited {
		remaining, reset = 0, cmp.Or(c.fault.RetryAfter, 6*time.Millisecond).String()
	}
	h["X-Request-Id"] = []string{"req_" + c.prefix + formatNonce(c.entry.n)}
	h["Openai-Processing-Ms"] = []string{strconv.FormatInt(time.Since(c.started).Milliseconds(), 10)}
	h["Openai-Version"] = []string{"2020-10-01"}
	h["X-Ratelimit-Limit-Requests"] = []string{strconv.Itoa(requests)}
	h["X-Ratelimit-Limit-Tokens"] = []string{strconv.Itoa(tokens)}
	h["X-Ratelimit-Remaining-Requests"] = []string{strconv.Itoa(remaining)}
	h["X-Ratelimit-Remaining-Tokens"] = []string{strconv.Itoa(tokens - min(tokens/2, c.promptTokens))}
	h["X-Ratelimit-Reset-Requests"] = []string{reset}
	h["X-Ratelimit-Reset-Tokens"] = []string{"1ms"}
}

// pause waits for d. It returns false when the call is over before.
func (c *call) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.r.Context().Done():
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
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http then at least closes the connection
	}
	if tcp, ok := conn.(lingerer); ok {
		_ = tcp.SetLinger(0) // it fails only on a connection that is gone already
	}
	_ = conn.Close()
}
