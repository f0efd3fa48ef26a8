package limit

import "time"

// The kinds of meters, and the unit of the balance between the lanes.
const (
	requests = iota
	tokens
)

// block is a part of a limit that was granted to this replica, for a while.
type block struct {
	left  int
	until time.Duration
	slot  int64 // where the log has it
}

// meter is this replica's side of a limit of requests or tokens. Limiter.mu guards it.
type meter struct {
	kind  int
	limit int

	blocks []block
	// mends are corrections of the log that the record does not have yet, by slot.
	mends map[int64]int

	// asked is what calls came for since the last exchange, and recent how much that is in a block's time.
	asked  int
	recent float64
	drawn  time.Duration // when the last exchange was
	// limited: the last exchange brought less than was wanted; soonest is when another may bring more.
	limited bool
	soonest time.Duration
	need    need

	low      int // a limit that the provider lowered; 0: not lowered
	lowUntil time.Duration
	said     said
	over     float64
	usage    usage
}

// said is what responses said of the provider's limit since the last exchange.
type said struct {
	limit   int // the lowest; 0: none
	left    int
	hasLeft bool
}

// usage is how much calls used of what was asked for them, since the last exchange.
type usage struct{ asked, used int }

func newMeter(kind, limit int) *meter {
	if limit <= 0 {
		return nil
	}
	return &meter{kind: kind, limit: limit, mends: map[int64]int{}, over: 1}
}

// bound is the limit that holds now.
func (m *meter) bound(now time.Duration) int {
	if m.low > 0 && now < m.lowUntil {
		return min(m.low, m.limit)
	}
	return m.limit
}

// cost is what a call takes of this limit: one request, or its tokens as calls have turned out lately.
func (m *meter) cost(asked int) int {
	if m.kind == requests {
		return 1
	}
	return int(float64(asked) * m.over)
}

// left is what may be used now. Blocks that ended give back what was not used.
func (m *meter) left(now time.Duration) int {
	for len(m.blocks) > 0 && m.blocks[0].until <= now {
		m.correct(m.blocks[0].slot, -m.blocks[0].left)
		m.blocks = m.blocks[1:]
	}
	sum := 0
	for _, b := range m.blocks {
		sum += b.left
	}
	return sum
}

// take moves n, which is there, from where it was granted to where it is used, and what is not there is debt.
func (m *meter) take(n int, slot int64) {
	for i := range m.blocks {
		b := &m.blocks[i]
		part := min(b.left, n)
		b.left -= part
		n -= part
		if b.slot != slot {
			m.correct(b.slot, -part)
			m.correct(slot, part)
		}
	}
	m.correct(slot, n)
}

// undo gives back what was taken in a slot: to the newest block, or else to all.
func (m *meter) undo(n int, slot int64, now time.Duration) {
	m.correct(slot, -n)
	m.left(now)
	if last := len(m.blocks) - 1; last >= 0 {
		m.blocks[last].left += n
		m.correct(m.blocks[last].slot, n)
	}
}

func (m *meter) correct(slot int64, n int) {
	if sum := m.mends[slot] + n; sum != 0 {
		m.mends[slot] = sum
	} else {
		delete(m.mends, slot)
	}
}

// debt is what the mends add to the log in all.
func (m *meter) debt() int {
	sum := 0
	for _, n := range m.mends {
		sum += n
	}
	return sum
}

// expect notes how much calls came for since the last exchange, and returns how much the next block may bring
// beyond what waits for it.
func (m *meter) expect(since time.Duration, limit int, r *rhythm) int {
	rate := float64(m.asked) * min(float64(r.block)/float64(max(since, r.gap)), 4)
	if m.recent = max(rate, m.recent/2); m.asked == 0 && m.recent < 1 {
		m.recent = 0
		return 0
	}
	m.asked = 0
	return max(int(m.recent*1.25), r.worth(limit)/8)
}

// learn brings the record's factor, and this replica's, nearer to what calls used lately: up quickly, because
// too little reserved is paid with refusals, and down slowly.
func (m *meter) learn(g *ledger) {
	over := max(g.Over, 1)
	if m.usage.asked > 0 {
		seen := min(float64(m.usage.used)/float64(m.usage.asked), 16)
		if seen > over {
			over += (seen - over) * 0.6
		} else {
			over = max(1, over-(over-seen)*0.1)
		}
		m.usage = usage{}
	}
	g.Over, m.over = over, over
}
