// Command nats-go shows how an application uses Spillway with nats.go alone: it publishes and waits, reads
// a result that is there already, and collects results with a durable consumer. It needs a running
// pipeline with the task analyze:
//
//	go run ./deploy/clients/nats-go -nats nats://127.0.0.1:4222
//
// It prints what it did, and exits with 1 when anything was not as promised.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	requests = "llm.request.analyze"
	results  = "llm.result.analyze."
	stream   = "LLM_RESULTS"
)

// result is the part of a result that this program looks at.
type result struct {
	ID     string          `json:"id"`
	Run    int             `json:"run"`
	Status string          `json:"status"`
	Output json.RawMessage `json:"output"`
	Model  string          `json:"model"`
	Error  *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func main() {
	url := flag.String("nats", nats.DefaultURL, "address of the NATS server")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	for _, recipe := range []func(context.Context, string) error{publishAndWait, lookLater, collectAllTheTime} {
		if err := recipe(ctx, *url); err != nil {
			fmt.Fprintln(os.Stderr, "nats-go:", err)
			os.Exit(1)
		}
	}
}

// publishAndWait is for a caller that needs the answer now. It subscribes before it publishes, so that the
// result cannot come too early to be heard.
func publishAndWait(ctx context.Context, url string) error {
	nc, js, err := connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	id := nats.NewInbox()[len("_INBOX."):]
	sub, err := nc.SubscribeSync(results + id)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if err := publish(ctx, js, id, "The new release is fast, but the docs lag behind."); err != nil {
		return err
	}
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return fmt.Errorf("wait for the result of %s: %w", id, err)
	}
	r, err := read(m.Data, id)
	if err != nil {
		return err
	}
	fmt.Printf("published %s and got %s from %s: %s\n", id, r.Status, r.Model, r.Output)
	return nil
}

// lookLater is for a caller that was away: the result is kept, and asked for by its subject. A caller that
// does not know whether it is there yet subscribes first, then looks, then waits.
func lookLater(ctx context.Context, url string) error {
	nc, js, err := connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	id := nats.NewInbox()[len("_INBOX."):]
	if err := publish(ctx, js, id, "Where is my order?"); err != nil {
		return err
	}
	kept, err := js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("open %s: %w", stream, err)
	}
	for {
		m, err := kept.GetLastMsgForSubject(ctx, results+id)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("no result of %s is kept: %w", id, ctx.Err())
			case <-time.After(50 * time.Millisecond):
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("look for the result of %s: %w", id, err)
		}
		r, err := read(m.Data, id)
		if err != nil {
			return err
		}
		fmt.Printf("found the result of %s, kept since %s: %s\n", id, m.Time.Format(time.TimeOnly), r.Status)
		return nil
	}
}

// collectAllTheTime is for a service that handles every result once, also those that came while it was
// down: the durable consumer remembers at the server what was acknowledged.
func collectAllTheTime(ctx context.Context, url string) error {
	name := "recipe-" + nats.NewInbox()[len("_INBOX."):]
	nc, js, err := connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	_, err = js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: results + "*", DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return fmt.Errorf("create the durable consumer: %w", err)
	}
	defer func() { _ = js.DeleteConsumer(context.WithoutCancel(ctx), stream, name) }() // an application keeps its own
	for _, id := range []string{name + "-1", name + "-2"} {
		if err := publish(ctx, js, id, "Is anybody there?"); err != nil {
			return err
		}
		if err := collectOne(ctx, url, name, id); err != nil {
			return err
		}
	}
	return nil
}

// collectOne is one life of the service: it connects, handles results until the one of id, and goes.
func collectOne(ctx context.Context, url, name, id string) error {
	nc, js, err := connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	consumer, err := js.Consumer(ctx, stream, name)
	if err != nil {
		return fmt.Errorf("find the durable consumer: %w", err)
	}
	for {
		m, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
		if err != nil {
			return fmt.Errorf("wait for the next result: %w", err)
		}
		mine := m.Subject() == results+id
		if mine {
			if _, err := read(m.Data(), id); err != nil {
				return err
			}
		}
		// Acknowledged last: a service that dies before it sees this result again.
		if err := m.DoubleAck(ctx); err != nil {
			return fmt.Errorf("acknowledge %s: %w", m.Subject(), err)
		}
		if mine {
			fmt.Printf("collected %s with the durable consumer\n", id)
			return nil
		}
	}
}

func connect(url string) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(url, nats.Name("nats-go recipe"))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("open JetStream: %w", err)
	}
	return nc, js, nil
}

// publish returns once JetStream has acknowledged the request: from then on it ends in one result. The id
// makes it safe to publish again after a doubt.
func publish(ctx context.Context, js jetstream.JetStream, id, text string) error {
	body, err := json.Marshal(map[string]any{"id": id, "input": map[string]string{"text": text}})
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	if _, err := js.Publish(ctx, requests, body, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("publish %s: %w", id, err)
	}
	return nil
}

func read(body []byte, wantID string) (*result, error) {
	r := &result{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("decode the result: %w", err)
	}
	switch {
	case r.ID != wantID || r.Run != 1:
		return nil, fmt.Errorf("got run %d of %s, not run 1 of %s", r.Run, r.ID, wantID)
	case r.Error != nil:
		return nil, fmt.Errorf("%s %s: %s: %s", r.ID, r.Status, r.Error.Code, r.Error.Message)
	case r.Status != "succeeded" && r.Status != "degraded" || len(r.Output) == 0:
		return nil, fmt.Errorf("%s ended as %s, without an output", r.ID, r.Status)
	}
	return r, nil
}
