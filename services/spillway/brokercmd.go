package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/stage"
	"spillway/services"
)

// brokerTimeout bounds the work on a broker.
const brokerTimeout = time.Minute

// brokerCmd makes or checks what a pipeline needs of a NATS server.
type brokerCmd struct {
	Init  brokerInitCmd  `cmd:"" help:"Create the streams, consumers and buckets, or bring them up to date."`
	Check brokerCheckCmd `cmd:"" help:"Say what is missing, what waits where, and who does not work."`

	Credentials brokerCredentialsCmd `cmd:"" help:"Make nkeys of users and certificates of nodes for a cluster of your own, and rotate them."`
}

// byteSize is a flag like 2GiB. 0 stands for the default.
type byteSize int64

// UnmarshalText reads a number with an optional KiB, MiB, GiB or TiB.
func (b *byteSize) UnmarshalText(text []byte) error {
	number, unit := string(text), int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(n > 0) || n*float64(unit) >= 1<<62 {
		return fmt.Errorf("a size is a number above zero with KiB, MiB, GiB or nothing behind it, not %q", text)
	}
	*b = byteSize(n * float64(unit))
	return nil
}

// String writes it as it is read.
func (b byteSize) String() string {
	for _, u := range []struct {
		name string
		size byteSize
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b >= u.size && b*100%u.size == 0 {
			return strconv.FormatFloat(float64(b)/float64(u.size), 'f', -1, 64) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// brokerInitCmd creates.
type brokerInitCmd struct {
	natsFlags
	Replicas     int           `help:"Replicas of each stream, in a cluster." default:"1" enum:"1,3,5"`
	InboxBytes   byteSize      `help:"Bound of a stage's inbox: a fuse." default:"2GiB" placeholder:"SIZE"`
	RequestBytes byteSize      `help:"Bound of the requests that wait for admission." default:"1GiB" placeholder:"SIZE"`
	ResultBytes  byteSize      `help:"Bound of the kept results; the oldest go first." default:"4GiB" placeholder:"SIZE"`
	DeadBytes    byteSize      `help:"Bound of the kept dead letters; the oldest go first." default:"1GiB" placeholder:"SIZE"`
	MarkerBytes  byteSize      `help:"Bound of the markers, 600 bytes a request: they must last for the longest deadline." default:"4GiB" placeholder:"SIZE"`
	CacheBytes   byteSize      `help:"Bound of the kept answers; the oldest go first." default:"0.5GiB" placeholder:"SIZE"`
	SessionBytes byteSize      `help:"Bound of what is remembered of sessions, at most 512KiB each; those silent longest go first." default:"1GiB" placeholder:"SIZE"`
	TaskBytes    byteSize      `help:"Bound of the kept versions of tasks; when it is reached no new one is taken." default:"1GiB" placeholder:"SIZE"`
	ContextBytes byteSize      `help:"Bound of what models were shown, kept for an hour in memory; the oldest go first." default:"64MiB" placeholder:"SIZE"`
	DeltaBytes   byteSize      `help:"Bound of the drafts, which are in memory; the oldest go first." default:"64MiB" placeholder:"SIZE"`
	ResultAge    time.Duration `help:"How long results are kept." default:"24h"`
	DeadAge      time.Duration `help:"How long dead letters are kept." default:"720h"`

	ResultsConsumer string `help:"Make a durable consumer of all results besides, by this name, for an application that may make none." placeholder:"NAME"`
}

func (c *brokerInitCmd) sizing() broker.Sizing {
	return broker.Sizing{
		Replicas: c.Replicas, InboxBytes: int64(c.InboxBytes), RequestBytes: int64(c.RequestBytes), ResultBytes: int64(c.ResultBytes),
		DeadBytes: int64(c.DeadBytes), CacheBytes: int64(c.CacheBytes), DeltaBytes: int64(c.DeltaBytes), MarkerBytes: int64(c.MarkerBytes), SessionBytes: int64(c.SessionBytes), TaskBytes: int64(c.TaskBytes), ContextBytes: int64(c.ContextBytes), ResultAge: c.ResultAge, DeadAge: c.DeadAge,
	}
}

// Run creates what is missing and lists what exists now.
func (c *brokerInitCmd) Run(ctx context.Context, g *globals) error {
	if c.ResultAge <= 0 || c.DeadAge <= 0 {
		return exit(exitUsage, "--result-age and --dead-age are durations above zero")
	}
	conn, err := c.connect(g, "broker")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	if lacksJetStream(ctx, conn) {
		return c.noJetStream()
	}
	topology := stage.Topology(services.Pipeline(), c.sizing())
	if err := conn.Ensure(ctx, topology); err != nil {
		api, ok := errors.AsType[*jetstream.APIError](err)
		switch {
		case ok && api.ErrorCode == codeReplicasAlone:
			return fmt.Errorf("%w: a lone server holds one replica, --replicas %d needs a cluster", err, c.Replicas)
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%w; may this user create streams?", err)
		}
		return err
	}
	if err := c.makeConsumer(ctx, conn); err != nil {
		return err
	}
	return quiet(c.list(ctx, g, conn, topology))
}

// makeConsumer leaves one that is there as it is: where its application is, it alone knows.
func (c *brokerInitCmd) makeConsumer(ctx context.Context, conn *broker.Conn) error {
	if c.ResultsConsumer == "" {
		return nil
	}
	_, err := conn.JS.CreateConsumer(ctx, broker.ResultsStream, jetstream.ConsumerConfig{
		Durable: c.ResultsConsumer, FilterSubject: broker.AllResults, AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
		return fmt.Errorf("make the consumer %s of results: %w", c.ResultsConsumer, err)
	}
	return nil
}

// codeReplicasAlone is the server's word for replicas without a cluster.
const codeReplicasAlone jetstream.ErrorCode = 10074

func (c *brokerInitCmd) list(ctx context.Context, g *globals, conn *broker.Conn, topology broker.Topology) error {
	t := newTable(g.stdout, "stream", "subjects", "kept", "bound", "age", "replicas", "messages", "consumers")
	for _, cfg := range topology.Streams {
		s, err := conn.JS.Stream(ctx, cfg.Name)
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", cfg.Name, err)
		}
		info := s.CachedInfo()
		kept := "until acknowledged"
		switch {
		case info.Config.Retention != jetstream.WorkQueuePolicy && info.Config.MaxMsgsPerSubject == 1:
			kept = "the newest a subject"
		case info.Config.Retention != jetstream.WorkQueuePolicy:
			kept = "until its age or bound"
		}
		var consumers []string
		for _, k := range topology.Consumers {
			if k.Stream == cfg.Name {
				consumers = append(consumers, k.Config.Durable)
			}
		}
		age := "-"
		if info.Config.MaxAge > 0 {
			age = span(info.Config.MaxAge)
		}
		if g.cli.JSON {
			err := g.printJSON(map[string]any{
				"stream": cfg.Name, "subjects": info.Config.Subjects, "retention": info.Config.Retention.String(), "max_bytes": info.Config.MaxBytes,
				"max_age_seconds": info.Config.MaxAge.Seconds(), "replicas": info.Config.Replicas, "messages": info.State.Msgs, "consumers": orEmpty(consumers),
			})
			if err != nil {
				return err
			}
			continue
		}
		t.row(cfg.Name, strings.Join(info.Config.Subjects, " "), kept, byteSize(info.Config.MaxBytes), age, info.Config.Replicas, info.State.Msgs, dash(strings.Join(consumers, " ")))
	}
	for _, b := range topology.Buckets {
		if g.cli.JSON {
			if err := g.printJSON(map[string]any{"bucket": b.Bucket, "max_bytes": b.MaxBytes, "max_age_seconds": b.TTL.Seconds(), "replicas": b.Replicas}); err != nil {
				return err
			}
			continue
		}
		t.row(b.Bucket, "(key-value bucket)", "the newest a key", byteSize(b.MaxBytes), span(b.TTL), max(b.Replicas, 1), "-", "-")
	}
	if g.cli.JSON {
		return nil
	}
	return t.flush()
}
