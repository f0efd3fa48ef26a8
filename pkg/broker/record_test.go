package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func TestARecordIsChangedByWhoeverNamesItsRevision(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
	ctx := t.Context()

	var mu sync.Mutex
	var seen []string
	stop, err := conn.FollowRecords(ctx, broker.BreakersBucket, func(r broker.Record) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Key+"="+string(r.Data))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	if r, err := conn.Record(ctx, broker.BreakersBucket, "model.x"); err != nil || r.Revision != 0 || r.Data != nil {
		t.Fatalf("nothing is stored yet, read %+v, %v", r, err)
	}
	first, err := conn.Swap(ctx, broker.BreakersBucket, "model.x", []byte("a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Swap(ctx, broker.BreakersBucket, "model.x", []byte("b"), 0); !errors.Is(err, broker.ErrConflict) {
		t.Errorf("a second first value: %v, want a conflict", err)
	}
	second, err := conn.Swap(ctx, broker.BreakersBucket, "model.x", []byte("b"), first)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Remove(ctx, broker.BreakersBucket, "model.x", first); !errors.Is(err, broker.ErrConflict) {
		t.Errorf("removing an old revision: %v, want a conflict", err)
	}
	if err := conn.Remove(ctx, broker.BreakersBucket, "model.x", second); err != nil {
		t.Fatal(err)
	}
	gone, err := conn.Record(ctx, broker.BreakersBucket, "model.x")
	if err != nil || gone.Data != nil || gone.Revision <= second {
		t.Errorf("removed, read %+v, %v", gone, err)
	}
	if _, err := conn.Swap(ctx, broker.BreakersBucket, "model.x", []byte("c"), gone.Revision); err != nil {
		t.Errorf("a value in the place of a removed one: %v", err)
	}
	all, err := conn.Records(ctx, broker.BreakersBucket)
	if err != nil || len(all) != 1 || string(all[0].Data) != "c" {
		t.Errorf("records %v, %v", all, err)
	}
	if now, err := conn.RecordsNow(ctx, broker.BreakersBucket); err != nil || len(now) != 1 || now[0].Key != "model.x" || string(now[0].Data) != "c" || now[0].Revision != all[0].Revision {
		t.Errorf("records of the leader %v, %v", now, err)
	}
	brokertest.Eventually(t, 5*time.Second, "the follower sees each change in order", func() bool {
		mu.Lock()
		defer mu.Unlock()
		want := []string{"model.x=a", "model.x=b", "model.x=", "model.x=c"}
		if len(seen) != len(want) {
			return false
		}
		for i := range want {
			if seen[i] != want[i] {
				t.Fatalf("seen %v", seen)
			}
		}
		return true
	})
}

func TestAFullBucketOfSessionsForgetsWhoWasSilentLongest(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	sizing := broker.DefaultSizing()
	sizing.SessionBytes = 1 << 20
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, sizing))
	record := bytes.Repeat([]byte("x"), 200<<10)
	first, err := conn.SwapFor(t.Context(), broker.SessionsBucket, "0", record, 0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 9; n++ {
		if _, err := conn.SwapFor(t.Context(), broker.SessionsBucket, fmt.Sprint(n), record, 0, time.Hour); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
		if n == 4 { // it speaks again
			if _, err := conn.SwapFor(t.Context(), broker.SessionsBucket, "0", record, first, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	kv, err := conn.JS.KeyValue(t.Context(), broker.SessionsBucket)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kv.Keys(t.Context())
	slices.Sort(keys)
	if err != nil || !slices.Equal(keys, []string{"0", "5", "6", "7", "8"}) {
		t.Errorf("kept are %v, %v", keys, err)
	}
}
