package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway/pkg/bench"
)

func TestBenchMeasuresWhatALongConversationCosts(t *testing.T) {
	const turns, budget = 60, 1500
	svg := filepath.Join(t.TempDir(), "curves.svg")
	said := spillway(t, "bench", "context", "--turns=60", "--budget=1500", "--json", "--svg="+svg).with(exitOK)
	report := struct {
		bench.ContextReport
		Building building `json:"building"`
	}{}
	if err := json.Unmarshal([]byte(said.out), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Requests) != turns || report.FullFrom < 2 || report.FullFrom > turns/2 || report.Over != 0 {
		t.Fatalf("%d requests, full from %d, %d over the budget", len(report.Requests), report.FullFrom, report.Over)
	}
	last := report.Requests[0]
	turn := report.Requests[1].Full - last.Full // all are as long
	for n, q := range report.Requests {
		if q.Provider > budget || q.Provider != q.Counted || q.Shown+q.LeftOut != n && report.FullFrom > n {
			t.Errorf("request %d: %+v", n+1, q)
		}
		if n >= report.FullFrom && q.Provider <= budget-turn-5 {
			t.Errorf("request %d: one more turn of %d tokens would have fitted: %+v", n+1, turn, q)
		}
		if n > 0 && q.Full < last.Full+turn-5 {
			t.Errorf("request %d: the whole history has %d tokens, after %d", n+1, q.Full, last.Full)
		}
		last = q
	}
	if least, most := report.Flat(); most-least > turn+5 || report.CostUSD >= report.FullCostUSD {
		t.Errorf("%d to %d tokens, $%g and $%g", least, most, report.CostUSD, report.FullCostUSD)
	}
	if b := report.Building; b.Tokens < 7500 || b.Tokens > 8500 || b.Kept.Jobs != buildingTimes || b.First.P50 <= b.Kept.P50 {
		t.Errorf("%+v", b)
	}
	picture, err := os.ReadFile(svg)
	if err != nil || strings.Count(string(picture), "<polyline") != 2 {
		t.Errorf("%v: %.100s", err, picture)
	}
	spillway(t, "bench", "context", "--turns=12", "--budget=700").with(exitOK, "12 turns of one session", "THE PROVIDER COUNTS", "full from request", "exceeded by 0 of 12 requests", "ms with kept counts")
	spillway(t, "bench", "context", "--turns=0").with(exitFailed, "turns are 1 to")
}
