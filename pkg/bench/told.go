package bench

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/job"
)

// toldLatency is what results tell of their calls' time, in whole milliseconds: the next best where the
// provider is out of reach.
type toldLatency struct {
	mu    sync.Mutex
	taken map[int]time.Duration
}

// newToldLatency lets the way's judge listen to the history of each result too.
func newToldLatency(w *way) *toldLatency {
	l := &toldLatency{taken: map[int]time.Duration{}}
	judge := w.judge
	w.judge = func(n int, m *nats.Msg) verdict {
		l.note(n, m.Data)
		return judge(n, m)
	}
	return l
}

func (l *toldLatency) note(n int, result []byte) {
	var r struct {
		History []job.Event `json:"history"`
	}
	if json.Unmarshal(result, &r) != nil {
		return // the judge says so
	}
	took := int64(0)
	for _, e := range r.History {
		if e.Kind == job.KindCall {
			took += e.TookMS
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken[n] = time.Duration(took) * time.Millisecond
}

func (l *toldLatency) of(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken[n]
}
