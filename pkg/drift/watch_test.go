package drift

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

func TestADoubledShareIsWarnedOfAndCountedByTaskAndKind(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	w, err := NewWatch(zerolog.New(&log), registry)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		w.Saw("analyze", "11111111", Invalid, false)
		w.Saw("analyze", "11111111", Degraded, false)
		w.Saw("other", "33333333", Invalid, true) // all of them, ever
	}
	for range 20 {
		w.Saw("analyze", "22222222", Invalid, true)
		w.Saw("analyze", "22222222", Degraded, false)
		w.Saw("other", "33333333", Invalid, true)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var counted []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			counted = append(counted, fmt.Sprint(f.GetName(), " ", m.GetLabel()[1].GetValue(), " ", m.GetLabel()[0].GetValue(), " ", m.GetCounter().GetValue()))
		}
	}
	slices.Sort(counted)
	if !slices.Equal(counted, []string{"spillway_drift_total analyze degraded 0", "spillway_drift_total analyze invalid 1", "spillway_drift_total other invalid 0"}) {
		t.Errorf("counted: %v", counted)
	}
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil { // one line, that is
		t.Fatalf("%v: %s", err, &log)
	}
	for key, want := range map[string]any{
		"level": "warn", "message": "the share of bad answers has doubled", "task": "analyze", "task_version": "22222222", "kind": "invalid",
		"of": 50.0, "usual_share": 0.0, "usual_bad": 0.0,
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v: %s", key, line[key], want, &log)
		}
	}
	if bad, share := line["bad"].(float64), line["share"].(float64); bad < 5 || share != bad/50 {
		t.Errorf("%v bad ones, a share of %v", bad, share)
	}
}

func TestWhatIsWatchedIsBounded(t *testing.T) {
	t.Parallel()
	w, err := NewWatch(zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range maxSeries + 100 {
		w.Saw("first", "", Invalid, false)
		w.Saw("task-"+strconv.Itoa(n), "", Invalid, false)
	}
	if len(w.all) != maxSeries {
		t.Errorf("%d series are kept, want %d", len(w.all), maxSeries)
	}
	if s := w.all[seriesKey{"first", Invalid}]; s == nil || s.recent.n != windows()[2] || s.usual.n == 0 {
		t.Error("the one that was seen all the time is forgotten")
	}
}
