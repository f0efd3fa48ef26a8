package fakellm

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Options say how a Server answers. The zero value is a provider that answers at once and always well.
type Options struct {
	// Addr is the TCP address to listen on; "": 127.0.0.1 and a free port.
	Addr string
	// Latency is how long good answers take; none by default.
	Latency Latency
	// Seed varies answers, draws of latency, and which calls a Fault with a Rate strikes.
	Seed uint64
	// Faults hold from the start.
	Faults []Fault
	// Limits hold from the start.
	Limits []Limit
	// Keys are the API keys that are let in; none: everybody is.
	Keys []string
	// Models are the models that exist, others are 404; none: every name does.
	Models []string
	// TokensPerChunk is how many tokens one chunk of a stream carries; 0: 1, as providers have it. Higher
	// makes streams cheaper on both sides.
	TokensPerChunk int
	// PromptTokens, unless nil, counts a prompt from the body of its request, in the place of characters divided
	// by four. It is called once a call, and must not keep the body.
	PromptTokens func(body []byte) int
	Log          zerolog.Logger
}

// Latency is how long a good answer takes.
type Latency struct {
	// FirstToken passes before the first token, PerToken before each further one.
	FirstToken, PerToken time.Duration
	// Sigma, above 0, makes both lognormal with these medians: exp(Sigma) times as long, or less, in 84 %
	// of the calls. PerToken is drawn once a call.
	Sigma float64
}

func (l Latency) draw(seed uint64) (first, perToken time.Duration) {
	if l.Sigma <= 0 {
		return l.FirstToken, l.PerToken
	}
	d := dice{seed}
	return d.lognormal(l.FirstToken, l.Sigma), d.lognormal(l.PerToken, l.Sigma)
}

// Server is a simulated provider. Its methods are safe for concurrent use.
type Server struct {
	opts     Options
	listener net.Listener
	http     *http.Server
	// prefix begins the request ids, so that two servers never give the same.
	prefix string

	plan    *plan
	ledger  *ledger
	memory  *memory
	schemas *schemas
	latency atomic.Pointer[Latency]
	bodies  sync.Pool
	outs    sync.Pool

	serving sync.WaitGroup
	closing sync.Once
	closed  chan struct{}
	hangUp  context.CancelFunc

	mu      sync.Mutex
	refuse  bool // guarded by mu, so that running never grows while Close waits for it
	running sync.WaitGroup
}

// Start listens and serves in the background until Close.
func Start(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if err := errors.Join(validateFaults(o.Faults), validateLimits(o.Limits)); err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	s := &Server{
		opts: o, listener: listener,
		prefix: formatNonce(scramble(uint64(time.Now().UnixNano()))),
		plan:   newPlan(o.Seed, o.Faults), ledger: newLedger(), memory: newMemory(), schemas: newSchemas(),
		bodies: buffers(), outs: buffers(),
		closed: make(chan struct{}),
	}
	s.ledger.setLimits(o.Limits)
	s.latency.Store(&o.Latency)
	base, cancel := context.WithCancel(context.Background())
	s.hangUp = cancel
	s.http = &http.Server{
		Handler:           s.guard(s.routes()),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(o.Log, "", 0),
	}
	s.serving.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Error().Err(err).Msg("the simulated provider stopped serving")
		}
	})
	return s, nil
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	mux.HandleFunc("POST /openai/v1/chat/completions", s.chat)
	mux.HandleFunc("POST /openai/deployments/{deployment}/chat/completions", s.azureChat)
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("GET /v1/models/{model}", s.showModel)
	s.controlRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		invalidURL(r).write(w)
	})
	return mux
}

// guard counts the running handlers, so that Close can wait for them.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.refuse {
			s.mu.Unlock()
			panic(http.ErrAbortHandler) // the way to end a call without an answer
		}
		s.running.Add(1)
		s.mu.Unlock()
		defer s.running.Done()
		next.ServeHTTP(w, r)
	})
}

// URL returns the base URL for clients, /v1 included.
func (s *Server) URL() string { return s.Root() + "/v1" }

// Root returns the URL without /v1: for the control endpoints, and as the base URL of Azure clients.
func (s *Server) Root() string { return "http://" + s.listener.Addr().String() }

// Close ends all calls, the hanging ones too, stops listening and waits for everything. Calling it again
// does nothing.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() {
		s.mu.Lock()
		s.refuse = true
		s.mu.Unlock()
		close(s.closed)
		err = s.http.Close() // first, so that hanging clients see a broken connection and no empty answer
		s.hangUp()
		s.running.Wait()
		s.serving.Wait()
	})
	return err
}

func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// SetFaults replaces the faults while the server runs; none: all calls are answered well. The first
// fault in the list that strikes a call is the one that it gets. It panics on a fault that Validate
// refuses: a misspelt kind would silently be no fault.
func (s *Server) SetFaults(f ...Fault) {
	must(validateFaults(f))
	s.plan.setFaults(f)
}

// Script sets what the next calls of a model get, in order, whatever their Rate or other conditions;
// "ok" is a good answer. Then the faults hold again. It replaces what is left of the model's script;
// model "" is for calls to models without a script of their own. It panics as SetFaults does.
func (s *Server) Script(model string, kinds ...Fault) {
	must(validateFaults(kinds))
	s.plan.script(model, kinds)
}

// SetLimits replaces the limits while the server runs; none: all calls are let in. Nothing counts against
// the new ones at first, calls in flight neither. It panics on a limit that Validate refuses.
func (s *Server) SetLimits(l ...Limit) {
	must(validateLimits(l))
	s.ledger.setLimits(l)
}

// SetUsage sets the tokens that answers of a model tell, and that limits count, whatever their texts; it
// holds for calls that start from now on. The zero Usage: what the texts amount to. Model "" is for models
// without a usage of their own. It panics on a usage that Validate refuses.
func (s *Server) SetUsage(model string, u Usage) {
	must(u.Validate())
	s.plan.setUsage(model, u)
}

// SetName sets what responses call a model, as providers do that put another one behind a name; "": its own name. It
// holds for answers that begin from now on.
func (s *Server) SetName(model, name string) { s.plan.setName(model, name) }

func must(err error) {
	if err != nil {
		panic("fakellm: " + err.Error())
	}
}

// SetAnswer sets literal contents that a model answers with, in order; the last repeats. None: answers
// are generated again. Model "" is for models without literal answers of their own. Faults apply to
// literal answers as to generated ones, and a call that gets no content uses none up. {{nonce}} in a
// content becomes the nonce of the call's input.
func (s *Server) SetAnswer(model string, answers ...string) { s.plan.setAnswers(model, answers) }

// SetLatency replaces Options.Latency for calls that start from now on.
func (s *Server) SetLatency(l Latency) { s.latency.Store(&l) }

// Counts returns a copy of what was counted.
func (s *Server) Counts() Counts { return s.ledger.counts() }

// Arrivals returns when the calls for a model, or all with "", were read, oldest first: those that Counts has
// as Calls, whatever became of them, so the refused ones too. Of the server's calls it knows the last
// 1,048,576.
func (s *Server) Arrivals(model string) []time.Time { return s.ledger.arrivals(model) }

// Requests returns the calls for a model, or all with "", oldest first; at most the server's last 1000.
func (s *Server) Requests(model string) []Request { return s.ledger.tail(model) }

// Await returns once holds is true of the counts, which it asks now and at each change; or with the
// cause why ctx ended.
func (s *Server) Await(ctx context.Context, holds func(Counts) bool) error {
	return s.ledger.await(ctx, holds)
}

// Reset puts the server into the state after Start, but for the numbering of calls: no counts, scripts,
// literal answers, usages or names, and the faults, limits and latency of Options. Calls in flight go on uncounted.
func (s *Server) Reset() {
	s.plan.reset(s.opts.Faults)
	s.ledger.reset(s.opts.Limits)
	s.memory.reset()
	s.latency.Store(&s.opts.Latency)
}

func (s *Server) hasModel(name string) bool {
	return len(s.opts.Models) == 0 || slices.Contains(s.opts.Models, name)
}

func (s *Server) admitsKey(key string) bool {
	return len(s.opts.Keys) == 0 || slices.Contains(s.opts.Keys, key)
}
