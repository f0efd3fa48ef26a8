package door

import (
	"fmt"
	"strconv"
	"strings"

	"spillway/pkg/job"
)

// place is where in the drafts of a job a client is: the last one that it was told, of which try. The zero value
// is that of a client that was told none.
type place struct {
	run, hop, delivery int
	holder             string
	n                  int
}

func placeOf(d *job.Draft) place {
	return place{run: d.Run, hop: d.Hop, delivery: d.Delivery, holder: d.Holder, n: d.N}
}

// elsewhere is the place of a client that comes back from where nobody knows.
func elsewhere() place { return place{run: -1} }

// isTryOf reports whether the place is within the try that a draft is of.
func (p place) isTryOf(d *job.Draft) bool {
	p.n = d.N
	return p == placeOf(d)
}

// id is the event's id: the client sends it back when it returns, to whichever replica.
func (p place) id() string {
	return fmt.Sprintf("%d.%d.%d.%d.%s", p.run, p.hop, p.delivery, p.n, p.holder)
}

// maxEventID is more than an id of ours has.
const maxEventID = 256

// placeFrom reads the id of an event. What is none of ours is elsewhere.
func placeFrom(id string) place {
	if id == "" {
		return place{}
	}
	parts := strings.SplitN(id, ".", 5)
	if len(id) > maxEventID || len(parts) < 5 {
		return elsewhere()
	}
	p := place{holder: parts[4]}
	for i, into := range []*int{&p.run, &p.hop, &p.delivery, &p.n} {
		n, err := strconv.ParseUint(parts[i], 10, 31)
		if err != nil {
			return elsewhere()
		}
		*into = int(n)
	}
	return p
}

// resultSuffix makes the id of a result of its run.
const resultSuffix = ".result"

func resultID(run int) string { return strconv.Itoa(run) + resultSuffix }

// runHad is the run whose result a client has that comes back with the event's id; 0: none.
func runHad(id string) int {
	text, ok := strings.CutSuffix(id, resultSuffix)
	run, err := strconv.ParseUint(text, 10, 31)
	if !ok || err != nil {
		return 0
	}
	return int(run)
}
