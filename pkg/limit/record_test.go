package limit

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
)

// Whatever stands in a record, an exchange neither fails nor grants more than the limit.
func FuzzARecordOfAnyShapeIsBorne(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `null`, `{"requests":{"from":3400000000,"log":[1,2,3],"paid":1700000000000000}}`,
		`{"requests":{"from":-9223372036854775808,"log":[9223372036854775807,9223372036854775807]}}`,
		`{"tokens":{"from":9223372036854775807,"log":[-1],"paid":-9223372036854775808,"low":-1,"low_until":9223372036854775807,"over":-1e308}}`,
		`{"hold":9223372036854775807,"replicas":{"me":{"beat":-1,"n":-5},"x":{"n":9223372036854775807,"interactive":-1,"batch":9223372036854775807,"needs":[{"n":9,"since":-9223372036854775808},{}],"at":1700000000000000}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decode(data)
		if err != nil {
			return
		}
		bounds := Bounds{Concurrency: 5, RequestsPerMinute: 600, TokensPerMinute: 60_000, BatchShare: 0.5}
		l, err := newLimiter(Options{Conn: &broker.Conn{}, Replica: "me", Models: map[string]Bounds{"small": bounds}, Log: zerolog.Nop()}, perMinute(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		l.clock.zero, l.clock.measured = noon, 0
		e := l.models["small"]
		if _, err := l.takeOrQueue(&Permit{l: l, ask: small, needs: l.needs(&small)}, -1); err != nil {
			t.Fatal(err)
		}
		a := &attempt{beat: 1, at: l.clock.now()}
		e.prepare(rec, a)
		if a.n > 5 || a.grants[requests].n > 60 || a.grants[tokens].n > 6000 {
			t.Errorf("granted %+v", a)
		}
		if _, err := json.Marshal(rec); err != nil {
			t.Error(err)
		}
	})
}
