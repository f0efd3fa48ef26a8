package task

import "time"

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
