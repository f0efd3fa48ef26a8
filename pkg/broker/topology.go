package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Topology is every stream, consumer and bucket that a pipeline needs.
type Topology struct {
	Streams   []jetstream.StreamConfig
	Consumers []Consumer
	Buckets   []jetstream.KeyValueConfig
}

// Consumer is a durable pull consumer of a stage's inbox.
type Consumer struct {
	Stream string
	Config jetstream.ConsumerConfig
}

// Source is an inbox as the topology sees it: which consumer pulls what.
type Source struct {
	Stage, Stream, Subject, Consumer string
}

// Sizing bounds the streams. The zero value of a field means its default.
type Sizing struct {
	// Replicas is 1 (default) or, in a cluster, 3.
	Replicas int
	// InboxBytes bounds one stage's inbox: a fuse, at twice what admission lets in at its worst.
	InboxBytes int64
	// RequestBytes bounds the requests that wait for admission: the pipeline's only backpressure.
	RequestBytes int64
	// ResultBytes, DeadBytes and CacheBytes bound what is kept; the oldest go first.
	ResultBytes, DeadBytes, CacheBytes int64
	// DeltaBytes bounds the drafts, which are kept in memory and for a quarter of an hour.
	DeltaBytes int64
	// ContextBytes bounds what is kept of prompts to look at, in memory and for an hour.
	ContextBytes int64
	// MarkerBytes bounds the markers, about 600 bytes each. It must hold those of the longest deadline, a
	// day: an id whose marker is gone is admitted again, and its deadline is no longer watched.
	MarkerBytes int64
	// SessionBytes bounds what is remembered of sessions, at most 512 KiB each; those who were silent longest go first.
	SessionBytes int64
	// TaskBytes bounds the kept versions of tasks; when they are full no new one is taken.
	TaskBytes int64
	// ResultAge and DeadAge are how long results and dead letters are kept.
	ResultAge, DeadAge time.Duration
}

const gib = 1 << 30

// DefaultSizing fits a disk with 20 GB to spare.
func DefaultSizing() Sizing {
	return Sizing{
		Replicas: 1, InboxBytes: 2 * gib, RequestBytes: gib, ResultBytes: 4 * gib, DeadBytes: gib, CacheBytes: gib / 2, MarkerBytes: 4 * gib,
		DeltaBytes: gib / 16, ContextBytes: gib / 16, SessionBytes: gib, TaskBytes: gib,
		ResultAge: 24 * time.Hour, DeadAge: 30 * 24 * time.Hour,
	}
}

// Leases and windows that the protocol depends on.
const (
	// AckWait is how long a delivery may go without a sign of life before it is delivered again.
	AckWait = 6 * time.Second
	// dedupeWindow catches a hand-over that is repeated; it is a help, not the guarantee.
	dedupeWindow = 30 * time.Second
	// clientDedupeWindow is the server's least. A longer one would swallow, unseen by ingest, a request
	// whose Nats-Msg-Id was used before with another body.
	clientDedupeWindow = 100 * time.Millisecond
	// markerAge is longer than the longest deadline and than results are kept.
	markerAge = 72 * time.Hour
	// maxHeld is how many deliveries one consumer may have out, delayed ones included.
	maxHeld   = 50_000
	cancelAge = 24 * time.Hour
	// MaxSessionAge is how long a session is remembered that nobody writes to, at most.
	MaxSessionAge = 30 * 24 * time.Hour
	// sessionMarkerAge is how long it stays known that a session expired; without such marks the bucket takes no ages
	// of single records.
	sessionMarkerAge = time.Minute
	// deltaAge is for readers that come to a request under way.
	deltaAge = 15 * time.Minute
	// contextAge is how long what a model was shown can be looked at.
	contextAge = time.Hour
)

// withDefaults fills what was left at zero.
func (s Sizing) withDefaults() Sizing {
	d := DefaultSizing()
	return Sizing{
		Replicas: cmp.Or(s.Replicas, d.Replicas), InboxBytes: cmp.Or(s.InboxBytes, d.InboxBytes),
		RequestBytes: cmp.Or(s.RequestBytes, d.RequestBytes), ResultBytes: cmp.Or(s.ResultBytes, d.ResultBytes),
		DeadBytes: cmp.Or(s.DeadBytes, d.DeadBytes), CacheBytes: cmp.Or(s.CacheBytes, d.CacheBytes),
		MarkerBytes: cmp.Or(s.MarkerBytes, d.MarkerBytes), DeltaBytes: cmp.Or(s.DeltaBytes, d.DeltaBytes),
		ContextBytes: cmp.Or(s.ContextBytes, d.ContextBytes),
		SessionBytes: cmp.Or(s.SessionBytes, d.SessionBytes), TaskBytes: cmp.Or(s.TaskBytes, d.TaskBytes),
		ResultAge: cmp.Or(s.ResultAge, d.ResultAge), DeadAge: cmp.Or(s.DeadAge, d.DeadAge),
	}
}

// NewTopology is what the given stages need. sources are their inboxes.
func NewTopology(stages []string, sources []Source, s Sizing) Topology {
	s = s.withDefaults()
	t := Topology{Streams: fixedStreams(s)}
	for _, stage := range stages {
		if subjects := inboxSubjects(stage, sources); len(subjects) > 0 {
			t.Streams = append(t.Streams, workQueue(StageStream(stage), s.Replicas, s.InboxBytes, dedupeWindow, subjects...))
		}
	}
	for _, in := range sources {
		t.Consumers = append(t.Consumers, Consumer{Stream: in.Stream, Config: in.consumer()})
	}
	t.Buckets = []jetstream.KeyValueConfig{
		{Bucket: CancelsBucket, TTL: cancelAge, Replicas: s.Replicas, MaxBytes: gib / 16},
		{Bucket: BreakersBucket, Replicas: s.Replicas, MaxBytes: gib / 64},
		{Bucket: LimitsBucket, Replicas: s.Replicas, MaxBytes: gib / 64},
		{Bucket: KeysBucket, Replicas: s.Replicas, MaxBytes: gib / 64},
		{Bucket: VersionsBucket, Replicas: s.Replicas, MaxBytes: gib / 64},
	}
	return t
}

func (in Source) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: in.Consumer, FilterSubject: in.Subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: AckWait,
		MaxDeliver: -1, MaxAckPending: maxHeld, Description: "pulled by " + in.Stage,
	}
}

// MakeInbox makes the consumer of an inbox, unless it is there.
func (c *Conn) MakeInbox(ctx context.Context, in Source) error {
	err := c.ensure(ctx, func(ctx context.Context) error {
		_, err := c.JS.CreateConsumer(ctx, in.Stream, in.consumer())
		return unless(err, jetstream.ErrConsumerExists)
	})
	if err != nil {
		return fmt.Errorf("make consumer %s of %s (may this user?): %w", in.Consumer, in.Stream, err)
	}
	return nil
}

func inboxSubjects(stage string, sources []Source) []string {
	var subjects []string
	for _, in := range sources {
		if in.Stream == StageStream(stage) && !slices.Contains(subjects, in.Subject) {
			subjects = append(subjects, in.Subject)
		}
	}
	return subjects
}

func fixedStreams(s Sizing) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		workQueue(RequestsStream, s.Replicas, s.RequestBytes, clientDedupeWindow, AllRequests),
		workQueue(BatchStream, s.Replicas, s.RequestBytes, clientDedupeWindow, AllBatch),
		workQueue(ParkedStream, s.Replicas, s.InboxBytes, dedupeWindow, AllParked),
		kept(AdmittedStream, s.Replicas, s.MarkerBytes, markerAge, AllAdmitted),
		results(s),
		kept(DeadStream, s.Replicas, s.DeadBytes, s.DeadAge, AllDead),
		cache(s),
		deltas(s),
		contexts(s),
		sessions(s),
		objects(TasksBucket, s.Replicas, s.TaskBytes),
	}
}

func workQueue(name string, replicas int, maxBytes int64, window time.Duration, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: subjects, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxBytes: maxBytes, Duplicates: window, Replicas: replicas, Storage: jetstream.FileStorage,
	}
}

// kept is a stream of one message a subject, the newest.
func kept(name string, replicas int, maxBytes int64, age time.Duration, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: subjects, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxMsgsPerSubject: 1, MaxBytes: maxBytes, MaxAge: age, AllowDirect: true, Replicas: replicas,
		Storage: jetstream.FileStorage, Duplicates: dedupeWindow,
	}
}

// results stores what result-writer writes under the subject that users read, and republishes it only
// then: a subscriber sees exactly what was stored.
func results(s Sizing) jetstream.StreamConfig {
	c := kept(ResultsStream, s.Replicas, s.ResultBytes, s.ResultAge, AllWrites)
	c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: writeSource, Destination: resultDestination}
	c.RePublish = &jetstream.RePublish{Source: AllResults, Destination: AllResults}
	return c
}

func cache(s Sizing) jetstream.StreamConfig {
	c := kept(CacheStream, s.Replicas, s.CacheBytes, 0, AllCached)
	c.AllowMsgTTL = true
	return c
}

// deltas holds drafts: losing them costs nothing but the look of it, so they are in memory, and unacknowledged. It
// has the replicas of the others all the same: a stream that is gone with its node keeps processes from starting.
func deltas(s Sizing) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: DeltasStream, Subjects: []string{AllDeltas}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxBytes: s.DeltaBytes, MaxAge: deltaAge, AllowDirect: true, Replicas: s.Replicas, Storage: jetstream.MemoryStorage, NoAck: true,
	}
}

// sessions is a key-value bucket that forgets those who were silent longest when it is full; one that nats.go makes
// refuses every write then, and no session would remember any more.
func sessions(s Sizing) jetstream.StreamConfig {
	c := kept(RecordStream(SessionsBucket), s.Replicas, s.SessionBytes, MaxSessionAge, recordSubject(SessionsBucket, ">"))
	c.AllowRollup, c.DenyDelete = true, true
	c.AllowMsgTTL, c.SubjectDeleteMarkerTTL = true, sessionMarkerAge
	return c
}

// objects is an object bucket, as any NATS tool reads it.
func objects(bucket string, replicas int, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: ObjectStream(bucket), Subjects: []string{objectChunks(bucket, ">"), "$O." + bucket + ".M.>"}, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, MaxBytes: maxBytes, AllowRollup: true, AllowDirect: true, Replicas: replicas, Storage: jetstream.FileStorage,
	}
}

// contexts holds what models were shown, for who asks soon: in memory and unacknowledged, like the drafts.
func contexts(s Sizing) jetstream.StreamConfig {
	c := kept(ContextsStream, s.Replicas, s.ContextBytes, contextAge, AllContexts)
	c.Storage, c.NoAck = jetstream.MemoryStorage, true
	return c
}

// retired are the consumers of earlier versions that pulled what today's are to pull: stages had one inbox for
// both lanes, and one for the parked jobs of all models.
func retired() []Source {
	old := []Source{{Stream: ParkedStream, Consumer: Inference + "-parked"}}
	for _, stage := range []string{ContextBuilder, Validator, Fallback, ResultWriter} {
		old = append(old, Source{Stream: StageStream(stage), Consumer: stage})
	}
	return old
}

// retire deletes them. One that still has something to pull is an error: nobody would pull that any more.
func (c *Conn) retire(ctx context.Context) error {
	for _, old := range retired() {
		err := c.ensure(ctx, func(ctx context.Context) error {
			k, err := c.JS.Consumer(ctx, old.Stream, old.Consumer)
			if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if info := k.CachedInfo(); info.NumPending+uint64(info.NumAckPending) > 0 {
				return fmt.Errorf("%d jobs wait there for an earlier version of Spillway: let that one finish them, then start this one", info.NumPending+uint64(info.NumAckPending))
			}
			return unless(c.JS.DeleteConsumer(ctx, old.Stream, old.Consumer), jetstream.ErrConsumerNotFound)
		})
		if err != nil {
			return fmt.Errorf("retire consumer %s of %s: %w", old.Consumer, old.Stream, err)
		}
	}
	return nil
}

// Ensure creates what is missing and brings the rest up to date. It is idempotent, and safe to run from
// several processes at once.
func (c *Conn) Ensure(ctx context.Context, t Topology) error {
	if err := c.retire(ctx); err != nil {
		return err
	}
	return c.each(ctx, t, makers{
		stream: func(ctx context.Context, s jetstream.StreamConfig) error {
			_, err := c.JS.CreateOrUpdateStream(ctx, s)
			return err
		},
		consumer: func(ctx context.Context, k Consumer) error {
			_, err := c.JS.CreateOrUpdateConsumer(ctx, k.Stream, k.Config)
			return err
		},
		bucket: func(ctx context.Context, b jetstream.KeyValueConfig) error {
			_, err := c.JS.CreateOrUpdateKeyValue(ctx, b)
			return err
		},
	}, "create")
}

// Create creates what is missing and leaves alone what is there: its replicas and bounds are the choice of
// whoever made it.
func (c *Conn) Create(ctx context.Context, t Topology) error {
	if err := c.retire(ctx); err != nil {
		return err
	}
	return c.each(ctx, t, makers{
		stream: func(ctx context.Context, s jetstream.StreamConfig) error {
			_, err := c.JS.CreateStream(ctx, s)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return c.widen(ctx, s)
			}
			return err
		},
		consumer: func(ctx context.Context, k Consumer) error {
			_, err := c.JS.CreateConsumer(ctx, k.Stream, k.Config)
			return unless(err, jetstream.ErrConsumerExists)
		},
		bucket: func(ctx context.Context, b jetstream.KeyValueConfig) error {
			_, err := c.JS.CreateKeyValue(ctx, b)
			return unless(err, jetstream.ErrBucketExists)
		},
	}, "create")
}

// widen adds the subjects that an existing stream lacks, and changes nothing else.
func (c *Conn) widen(ctx context.Context, want jetstream.StreamConfig) error {
	s, err := c.JS.Stream(ctx, want.Name)
	if err != nil {
		return err
	}
	config := s.CachedInfo().Config
	missing := slices.DeleteFunc(slices.Clone(want.Subjects), func(subject string) bool { return slices.Contains(config.Subjects, subject) })
	if len(missing) == 0 {
		return nil
	}
	config.Subjects = append(config.Subjects, missing...)
	_, err = c.JS.UpdateStream(ctx, config)
	return err
}

func unless(err, known error) error {
	if errors.Is(err, known) {
		return nil
	}
	return err
}

// makers make, or look for, one thing of a topology.
type makers struct {
	stream   func(context.Context, jetstream.StreamConfig) error
	consumer func(context.Context, Consumer) error
	bucket   func(context.Context, jetstream.KeyValueConfig) error
}

// each does so for everything of t, in an order in which each finds what it needs.
func (c *Conn) each(ctx context.Context, t Topology, m makers, doing string) error {
	for _, cfg := range t.Streams {
		if err := c.ensure(ctx, func(ctx context.Context) error { return m.stream(ctx, cfg) }); err != nil {
			return fmt.Errorf("%s stream %s: %w", doing, cfg.Name, err)
		}
	}
	for _, k := range t.Consumers {
		if err := c.ensure(ctx, func(ctx context.Context) error { return m.consumer(ctx, k) }); err != nil {
			return fmt.Errorf("%s consumer %s of %s: %w", doing, k.Config.Durable, k.Stream, err)
		}
	}
	for _, b := range t.Buckets {
		if err := c.ensure(ctx, func(ctx context.Context) error { return m.bucket(ctx, b) }); err != nil {
			return fmt.Errorf("%s bucket %s: %w", doing, b.Bucket, err)
		}
	}
	return nil
}

// ensure repeats through an election: a cluster that just started has no leader yet.
func (c *Conn) ensure(ctx context.Context, create func(context.Context) error) error {
	for n := 0; ; n++ {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := create(try)
		cancel()
		if err == nil || ctx.Err() != nil || !isPassing(err) && !isForming(err) {
			return err
		}
		if pause(ctx, n) != nil {
			return err
		}
	}
}

// isForming reports whether err is that of a cluster whose peers have not all been seen yet.
func isForming(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == codeNoPeers
}

// Check returns what of t is missing on the server, by name. Empty: all is there.
func (c *Conn) Check(ctx context.Context, t Topology) ([]string, error) {
	var missing []string
	look := makers{
		stream: func(ctx context.Context, s jetstream.StreamConfig) error {
			_, err := c.JS.Stream(ctx, s.Name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				missing, err = append(missing, "stream "+s.Name), nil
			}
			return err
		},
		consumer: func(ctx context.Context, k Consumer) error {
			_, err := c.JS.Consumer(ctx, k.Stream, k.Config.Durable)
			if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
				missing, err = append(missing, "consumer "+k.Config.Durable+" of "+k.Stream), nil
			}
			return err
		},
		bucket: func(ctx context.Context, b jetstream.KeyValueConfig) error {
			_, err := c.JS.KeyValue(ctx, b.Bucket)
			if errors.Is(err, jetstream.ErrBucketNotFound) {
				missing, err = append(missing, "bucket "+b.Bucket), nil
			}
			return err
		},
	}
	err := c.each(ctx, t, look, "look for")
	return missing, err
}
