package limit

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"

	"github.com/prometheus/client_golang/prometheus"
)

func benchmark(b *testing.B, o Options, a Ask) {
	conn := brokertest.Connect(b, brokertest.Server(b).URL())
	brokertest.Ensure(b, conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
	metrics := prometheus.NewRegistry()
	o.Conn, o.Replica, o.Log, o.Metrics = conn, "one", zerolog.Nop(), metrics
	l, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	began := time.Now()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := l.Take(ctx, a, -1)
			if err != nil {
				b.Error(err)
				return
			}
			p.Done(Used{Sent: true, Tokens: a.Tokens})
		}
	})
	b.StopTimer()
	n := 0.0
	families, _ := metrics.Gather()
	for _, f := range families {
		if f.GetName() == "spillway_limit_exchanges_total" {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	b.ReportMetric(n/time.Since(began).Seconds(), "exchanges/s")
	cancel()
	<-ended
}

func BenchmarkACallWithoutLimits(b *testing.B) {
	benchmark(b, Options{Models: map[string]Bounds{"small": {RequestsPerMinute: 1}}}, Ask{Model: "free", Provider: "far", Task: "sum", Lane: job.Interactive, Tokens: 100})
}

func BenchmarkACallWithinABlock(b *testing.B) {
	benchmark(b, Options{Models: map[string]Bounds{"small": {Concurrency: 1000, RequestsPerMinute: 1 << 40}}}, Ask{Model: "small", Provider: "far", Task: "sum", Lane: job.Interactive, Tokens: 100})
}

func BenchmarkACallOfManyLimits(b *testing.B) {
	all := Bounds{Concurrency: 1000, RequestsPerMinute: 1 << 40, TokensPerMinute: 1 << 50, BatchShare: 0.5}
	benchmark(b, Options{Models: map[string]Bounds{"small": all}, Providers: map[string]Bounds{"far": all}, Tasks: map[string]int{"sum": 1000}},
		Ask{Model: "small", Provider: "far", Task: "sum", Lane: job.Interactive, Tokens: 100})
}
