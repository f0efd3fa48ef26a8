package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// trySums sums up what came of the inputs.
type trySums struct {
	inputs int
	sides  []*sideSum
	// compared had two outputs, of which so many differ; places are how many of them differ where.
	compared, different int
	places              map[string]int
	// told is how often people were told of a kind of line.
	told map[string]int
}

// sideSum is that of one contender.
type sideSum struct {
	Side     string  `json:"side"`
	Version  string  `json:"version"`
	Model    string  `json:"model"`
	Answers  int     `json:"answers"`
	Accepted int     `json:"accepted"`
	Share    float64 `json:"valid_share"`
	// Recoveries are how outputs were won, Refused the verdicts of answers that are none, Errors the codes of calls
	// without an answer.
	Recoveries map[string]int    `json:"recoveries"`
	Refused    map[string]int    `json:"not_accepted"`
	Errors     map[fate.Code]int `json:"errors"`
	Strangers  int               `json:"answered_by_another"`

	Calls         int     `json:"calls"`
	CountedTokens int     `json:"counted_tokens"`
	InputTokens   int     `json:"input_tokens"`
	OutputTokens  int     `json:"output_tokens"`
	CostUSD       float64 `json:"cost_usd"`
	FirstTokenP50 float64 `json:"first_token_p50_ms"`
	P50           float64 `json:"p50_ms"`
	P95           float64 `json:"p95_ms"`

	firstTokens, took []float64
}

func newTrySums(sides []*contender) *trySums {
	s := &trySums{places: map[string]int{}, told: map[string]int{}}
	for _, side := range sides {
		s.sides = append(s.sides, &sideSum{
			Side: side.label, Version: side.version, Model: side.model.Name,
			Recoveries: map[string]int{}, Refused: map[string]int{}, Errors: map[fate.Code]int{},
		})
	}
	return s
}

func (s *trySums) add(d *tried) {
	s.inputs++
	s.addSides(d)
	if d.Differences == nil {
		return
	}
	s.compared++
	if len(d.Differences) > 0 {
		s.different++
	}
	places := map[string]bool{}
	for _, one := range d.Differences {
		places[generalized(one.Pointer)] = true
	}
	for place := range places {
		s.places[place]++
	}
}

func (s *trySums) addSides(d *tried) {
	for i, a := range d.Sides {
		s.sides[i].add(a)
	}
}

func (s *sideSum) add(a *attempt) {
	s.Calls += a.Calls
	s.CountedTokens += a.CountedTokens
	s.InputTokens += a.InputTokens
	s.OutputTokens += a.OutputTokens
	s.CostUSD += a.CostUSD
	if a.Stranger {
		s.Strangers++
	}
	if a.Error != nil {
		s.Errors[a.Error.Code]++
		return
	}
	s.Answers++
	s.took = append(s.took, a.TookMS)
	if a.FirstTokenMS > 0 {
		s.firstTokens = append(s.firstTokens, a.FirstTokenMS)
	}
	if a.isAccepted() {
		s.Accepted++
		s.Recoveries[a.Recovery]++
		return
	}
	s.Refused[a.Verdict]++
}

// close computes what can be computed once all is there.
func (s *sideSum) close() {
	if s.Answers > 0 {
		s.Share = float64(s.Accepted) / float64(s.Answers)
	}
	s.FirstTokenP50, s.P50, s.P95 = percentile(s.firstTokens, 50), percentile(s.took, 50), percentile(s.took, 95)
}

// percentile is the nearest rank: the least value that so many per cent do not exceed; 0 of none.
func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)*p+99)/100-1]
}

func (s *trySums) isAllFailed() bool {
	return s.inputs > 0 && !slices.ContainsFunc(s.sides, func(side *sideSum) bool { return side.Answers > 0 })
}

// sum prints the sums.
func (r *tries) sum() error {
	for _, side := range r.sums.sides {
		side.close()
	}
	if r.g.cli.JSON {
		return r.g.printJSON(map[string]any{
			"event": "summary", "inputs": r.sums.inputs, "rejected": len(r.rejected), "sides": r.sums.sides,
			"compared": r.sums.compared, "different": r.sums.different, "places": r.sums.places,
		})
	}
	t := newTable(r.g.stdout, "side", "answers", "valid", "as they came", "extracted", "repaired", "not valid", "no answer", "p50", "p95", "first token p50", "tokens in, out", "cost")
	for _, s := range r.sums.sides {
		t.row(s.Side, s.Answers, fmt.Sprintf("%.1f %%", 100*s.Share), s.Recoveries[job.RecoveryStrict], s.Recoveries["extracted"], s.Recoveries["repaired"],
			tallied(s.Refused), tallied(s.Errors), took(s.P50), took(s.P95), took(s.FirstTokenP50), fmt.Sprintf("%d, %d", s.InputTokens, s.OutputTokens), fmt.Sprintf("$%.5f", s.CostUSD))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i, s := range r.sums.sides {
		if s.Strangers > 0 {
			r.g.printf("%s: %s from another model than %s, which models.yaml names (answers_as)\n", s.Side, count(s.Strangers, "answer"), r.sides[i].model.AnswersAs)
		}
	}
	r.differences()
	return nil
}

// differences says how many outputs differ, and where.
func (r *tries) differences() {
	if len(r.sides) < 2 {
		return
	}
	r.g.printf("%d of %s that both sides answered differ\n", r.sums.different, count(r.sums.compared, "input"))
	places := slices.SortedFunc(maps.Keys(r.sums.places), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.sums.places[b], r.sums.places[a]), cmp.Compare(a, b))
	})
	for _, place := range places[:min(len(places), toldOfEach)] {
		r.g.printf("  %4d  %s\n", r.sums.places[place], oneLine(cmp.Or(place, "(the whole output)")))
	}
}

// tallied is what was counted by name, the most frequent first; "-": nothing.
func tallied[K ~string](counts map[K]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b K) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return dash(strings.Join(parts, ", "))
}

// took writes milliseconds for a person.
func took(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return span(time.Duration(ms * float64(time.Millisecond)))
}
