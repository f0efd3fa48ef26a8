package task

import (
	"time"

	"spillway/pkg/job"
)

// Short deadlines cannot afford the task's whole reserve: it takes at most this part of the time.
const reserveShare = 4

// ReserveOf is what of a run's time is kept for the ladder: the task's reserve, at most a quarter.
func (t *Task) ReserveOf(total time.Duration) time.Duration {
	return min(t.Deadline.Reserve, total/reserveShare)
}

// AnswerLead is how long before the deadline fallback answers what has no result: half of the reserve,
// the other half being what the answer needs to arrive.
func (t *Task) AnswerLead(total time.Duration) time.Duration {
	return t.ReserveOf(total) / 2
}

// RungTime is what is kept of a run's time for each model of the ladder that may still be asked.
const RungTime = 10 * time.Second

// CallTime is what is left of a run for the calls to one model, when left is the time until the deadline less
// the reserve, and so many rungs of the ladder are other models: each of them gets RungTime, or its even
// share where that is less.
func CallTime(left time.Duration, rungs int) time.Duration {
	if rungs <= 0 || left <= 0 {
		return left
	}
	return left - time.Duration(rungs)*min(RungTime, left/time.Duration(rungs+1))
}

// On is what happens on a lane.
func (o OnOutage) On(lane string) string {
	if lane == job.Batch {
		return o.Batch
	}
	return o.Interactive
}
