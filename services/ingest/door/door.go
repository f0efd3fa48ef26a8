// Package door is the HTTP way in and out: a POST is answered with 202 once the request is stored, and its
// result is polled for, or followed as it comes.
package door

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services/ingest"
)

// Options say what a door stands on.
type Options struct {
	Conn *broker.Conn
	Desk *ingest.Desk
	// Tasks are those that the desk accepts requests for; Stages are the pipeline's, by name.
	Tasks  *task.Book
	Stages []string
	// Keys are who may come in; nil: everybody may do all.
	Keys *apikey.Ring
	// Open lets everybody do all until a first key is made; for loopback, where no key was ever made.
	Open bool
	// PublicURL is what addresses begin with, https://llm.example.com; "": the request's own host.
	PublicURL string
	// Origins are the pages that a browser may call from, https://app.example.com; * is any.
	Origins []string
	// Metrics takes the door's; nil: nobody.
	Metrics prometheus.Registerer
	Log     zerolog.Logger
}

// Door serves the HTTP routes.
type Door struct {
	o           Options
	hub         *hub
	rates       *rates
	places      *places
	bodies      *bodies
	bodyTimeout time.Duration
	// desks bounds how many requests are being stored; the others wait for deskWait.
	desks    *semaphore.Weighted
	deskWait time.Duration
	// contract reads the documents, when somebody asks for them first.
	contract func() (*schemas.Contract, error)
	// keyed: a key was made since, keys are asked for.
	keyed atomic.Bool
	log   zerolog.Logger

	//nolint:containedctx // it is the life of all handlers that wait: it ends when the door drains
	staying context.Context
	leave   context.CancelCauseFunc
	inside  crowd
}

// Storing takes a request many times its length, and one that waits too long inside JetStream is not known to be
// stored or not: so many are given to it at once, the others wait before it, for so long at most.
const (
	maxDesks = 256
	deskWait = 5 * time.Second
)

// startTimeout bounds the subscriptions at the start; it is longer than an election.
const startTimeout = 30 * time.Second

// errDraining is the cause of staying's end.
var errDraining = errors.New("the door is draining")

// New makes a door and starts to listen for results, progress and drafts.
func New(ctx context.Context, o Options) (*Door, error) {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	h, err := newHub(starting, o.Conn, o.Metrics, o.Log)
	if err != nil {
		return nil, fmt.Errorf("open the door: %w", err)
	}
	d := &Door{
		o: o, hub: h, rates: newRates(), places: newPlaces(o.Conn), bodies: newBodies(maxBodies, maxShare),
		bodyTimeout: bodyTimeout, desks: semaphore.NewWeighted(maxDesks), deskWait: deskWait, log: o.Log,
		contract: sync.OnceValues(schemas.ReadContract),
	}
	d.staying, d.leave = context.WithCancelCause(context.WithoutCancel(ctx))
	return d, nil
}

// Handler serves all routes.
func (d *Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/tasks/{task}/jobs", d.postJob)
	mux.HandleFunc("GET /v1/jobs/{id}", d.getJob)
	mux.HandleFunc("POST /v1/jobs/{id}/cancel", d.cancelJob)
	mux.HandleFunc("GET /v1/jobs/{id}/events", d.jobEvents)
	mux.HandleFunc("GET /v1/jobs/{id}/ws", d.jobSocket)
	mux.HandleFunc("GET /v1/sessions/{session}/events", d.sessionEvents)
	mux.HandleFunc("GET /v1/sessions/{session}/ws", d.sessionSocket)
	mux.HandleFunc("GET /openapi.json", d.openAPI)
	mux.HandleFunc("GET /asyncapi.json", d.asyncAPI)
	return d.enter(mux)
}

// Drain refuses new requests, ends waits, tells the streams to reconnect elsewhere, and returns when all have
// left or ctx ends.
func (d *Door) Drain(ctx context.Context) {
	d.leave(errDraining)
	select {
	case <-d.inside.empty():
	case <-ctx.Done():
		d.log.Warn().Int("requests", d.inside.count()).Msg("the door closes on requests under way")
	}
}

// Close ends what the door listens to.
func (d *Door) Close() {
	d.leave(errDraining)
	d.hub.close()
}

// IsDraining reports whether new requests are refused.
func (d *Door) IsDraining() bool { return d.staying.Err() != nil }
