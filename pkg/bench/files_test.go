package bench

import (
	"strings"
	"testing"
)

func TestCallsThatNeedMoreFilesThanAreAllowedAreRefusedWithTheRemedy(t *testing.T) {
	t.Parallel()
	if err := fitsFiles(10_000, 10_512); err != nil {
		t.Errorf("what fits is refused: %v", err)
	}
	for limit, most := range map[uint64]string{10_511: "at most 9999 fit", 512: "no calls fit"} {
		err := fitsFiles(10_000, limit)
		if err == nil || !strings.Contains(err.Error(), "ulimit -n 10512") || !strings.Contains(err.Error(), most) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestAPipelineForACrowdLetsAllOfItIn(t *testing.T) {
	t.Parallel()
	if l := limitsFor(MaxInFlight, 30_000); l.Interactive < MaxInFlight+fewFirst || l.Bytes < MaxInFlight*2*30_000 {
		t.Errorf("the limits are %+v", l)
	}
	if few := limitsFor(1, 1); few.Batch == 0 || few.Refresh == 0 || few.Interactive <= 1 {
		t.Errorf("the limits are %+v", few)
	}
}
