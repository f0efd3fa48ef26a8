package broker_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func content(t *testing.T, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// The client's own object store is the referee: it is what any NATS tool reads with.
func TestAnObjectIsOneForAnyNATSTool(t *testing.T) {
	t.Parallel()
	for name, url := range servers(t) {
		t.Run(name, func(t *testing.T) {
			c := brokertest.Connect(t, url)
			brokertest.Ensure(t, c, topology())
			theirs, err := c.JS.ObjectStore(t.Context(), broker.TasksBucket)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1, 128 << 10, 300_001} {
				want := content(t, size)
				if err := c.PutObject(t.Context(), broker.TasksBucket, "toy/a", want); err != nil {
					t.Fatal(err)
				}
				if got, err := theirs.GetBytes(t.Context(), "toy/a"); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the client's store reads %d of %d bytes: %v", len(got), size, err)
				}
				if got, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", size); err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %d of %d bytes: %v", len(got), size, err)
				}
				if _, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", size-1); !errors.Is(err, broker.ErrUnreadable) {
					t.Errorf("more than the caller takes: %v", err)
				}
			}
			want := content(t, 200_000)
			if _, err := theirs.PutBytes(t.Context(), "toy/b", want); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Object(t.Context(), broker.TasksBucket, "toy/b", 1<<20); err != nil || !bytes.Equal(got, want) {
				t.Errorf("what the client's store wrote is read as %d bytes: %v", len(got), err)
			}
			if names, err := c.Objects(t.Context(), broker.TasksBucket); err != nil || !slices.Equal(slices.Sorted(slices.Values(names)), []string{"toy/a", "toy/b"}) {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}

func TestARemovedObjectIsGoneAndCanBePutAgain(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	if _, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("without a bucket: %v", err)
	}
	brokertest.Ensure(t, c, topology())
	want := content(t, 200_000)
	for range 2 {
		if err := c.PutObject(t.Context(), broker.TasksBucket, "toy/a", want); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		for range 2 {
			if err := c.RemoveObject(t.Context(), broker.TasksBucket, "toy/a"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("after its removal: %v", err)
		}
	}
	s, err := c.JS.Stream(t.Context(), broker.ObjectStream(broker.TasksBucket))
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d messages are left of a removed object, not the mark of its removal alone", n)
	}
}

// Replicas of a process that start together put the same versions.
func TestManyPutTheSameObjectAndItIsStoredOnce(t *testing.T) {
	t.Parallel()
	for name, url := range servers(t) {
		t.Run(name, func(t *testing.T) {
			brokertest.Ensure(t, brokertest.Connect(t, url), topology())
			want := content(t, 700_000)
			var all sync.WaitGroup
			for range 6 {
				c := brokertest.Connect(t, url)
				all.Go(func() {
					if err := c.PutObject(t.Context(), broker.TasksBucket, "toy/a", want); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			c := brokertest.Connect(t, url)
			if got, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			s, err := c.JS.Stream(t.Context(), broker.ObjectStream(broker.TasksBucket))
			if err != nil {
				t.Fatal(err)
			}
			if n := s.CachedInfo().State.Msgs; n != 6+1 {
				t.Errorf("%d messages: six chunks and what is known of the object are 7", n)
			}
		})
	}
}

func TestAnObjectWhoseChunksAreNotThoseThatWerePutIsRefused(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, c, topology())
	if err := c.PutObject(t.Context(), broker.TasksBucket, "toy/a", content(t, 300_000)); err != nil {
		t.Fatal(err)
	}
	first, err := c.First(t.Context(), broker.ObjectStream(broker.TasksBucket), "$O.llm_tasks.C.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), broker.ObjectStream(broker.TasksBucket), first.Sequence); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); !errors.Is(err, broker.ErrUnreadable) {
		t.Errorf("an object that lacks a chunk: %v", err)
	}
	want := content(t, 100)
	if err := c.PutObject(t.Context(), broker.TasksBucket, "toy/a", want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); err != nil || !bytes.Equal(got, want) {
		t.Errorf("put anew: %d bytes, %v", len(got), err)
	}
}

func TestAFullBucketOfObjectsSaysSo(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	sizing := broker.DefaultSizing()
	sizing.TaskBytes = 1 << 20
	brokertest.Ensure(t, c, broker.NewTopology(nil, nil, sizing))
	var err error
	for name := 'a'; err == nil && name <= 'z'; name++ {
		err = c.PutObject(t.Context(), broker.TasksBucket, "toy/"+string(name), content(t, 200_000))
	}
	if !errors.Is(err, broker.ErrFull) {
		t.Errorf("%v", err)
	}
}

// Who removes an object marks it first and then takes its chunks away; another one may put it again in between.
func TestAnObjectThatIsPutAgainWhileItIsRemovedStays(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, c, topology())
	want := content(t, 200_000)
	put := func() {
		t.Helper()
		if err := c.PutObject(t.Context(), broker.TasksBucket, "toy/a", want); err != nil {
			t.Fatal(err)
		}
	}
	put()
	theirs, err := c.JS.ObjectStore(t.Context(), broker.TasksBucket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := theirs.GetInfo(t.Context(), "toy/a")
	if err != nil {
		t.Fatal(err)
	}
	chunks := "$O.llm_tasks.C." + info.NUID
	info.Deleted, info.Size, info.Chunks, info.Digest = true, 0, 0, ""
	marked, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.JS.PublishMsg(t.Context(), &nats.Msg{Subject: "$O.llm_tasks.M.dG95L2E=", Data: marked, Header: nats.Header{"Nats-Rollup": {"sub"}}}); err != nil {
		t.Fatal(err)
	}
	put()
	s, err := c.JS.Stream(t.Context(), "OBJ_llm_tasks")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject(chunks)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Object(t.Context(), broker.TasksBucket, "toy/a", 1<<20); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
