package stage

import "testing"

func TestAnInboxAsksForAsManyMessagesAsFitItsShareOfTheMemory(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for name, row := range map[string]struct {
		sizes []int // of what is held
		asked int
		want  int
	}{
		"nothing is known":           {nil, 0, 256},
		"small ones":                 {[]int{2000, 2000}, 0, DefaultHeldBytes/2000 - 2},
		"a large one":                {[]int{mb}, 0, 23},
		"a large one, some asked":    {[]int{mb}, 20, 3},
		"as much as may be":          {[]int{12 * mb, 12 * mb}, 0, 0},
		"more than may be":           {[]int{12 * mb, 12 * mb, mb}, 2, -2},
		"a large one, then small":    {[]int{mb, 1000, 1000}, 0, 23},
		"one that is larger than it": {[]int{30 * mb}, 0, 0},
	} {
		p := &puller{slots: 256, held: map[uint64]*held{}}
		for i, size := range row.sizes {
			p.held[uint64(i)] = &held{}
			p.weigh(size)
		}
		if got := p.room(row.asked); got != row.want {
			t.Errorf("%s: room for %d, want %d", name, got, row.want)
		}
	}
}

func TestAnInboxThatHoldsNothingAlwaysAsksForOne(t *testing.T) {
	t.Parallel()
	p := &puller{slots: 256, held: map[uint64]*held{}, size: 2 * DefaultHeldBytes}
	if got := p.room(0); got != 1 {
		t.Errorf("room for %d", got)
	}
}
