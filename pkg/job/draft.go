package job

import (
	"encoding/json"

	"spillway/pkg/fate"
)

// What a draft tells.
const (
	// DraftPart: the model said more.
	DraftPart = "draft"
	// DraftRetracted: forget the drafts so far, their answer is none. Another try, or another's answer, follows.
	DraftRetracted = "retracted"
	// DraftRestarted: another try begins; forget the drafts so far.
	DraftRestarted = "restarted"
)

// Draft is what a model said so far, unchecked, for a request that asked for it. Drafts may be lost, may be seen
// twice, and may come after the result: only the result counts. What a reader makes of them is Shown;
// draft.schema.json says it in words, and has a whole sequence as its examples.
type Draft struct {
	V     int    `json:"v"`
	ID    string `json:"id"`
	Task  string `json:"task"`
	Event string `json:"event"`
	// Run, Hop and Delivery are the order of what is told: the hop of the run, and which delivery of the job to
	// its stage. What is of a later one takes the place of all before it.
	Run      int `json:"run"`
	Hop      int `json:"hop"`
	Delivery int `json:"delivery"`
	// Call is the call of the run, from 1, as in the history.
	Call int `json:"call"`
	// Holder is who makes the call: a broker that crashed may give one delivery to two. "": who makes none.
	Holder string `json:"holder,omitempty"`
	// N numbers what a holder tells of a try, from 1; 0 of who makes no call.
	N int `json:"n"`
	// Text is what came since the draft before, of a task whose output is text.
	Text string `json:"text,omitempty"`
	// Partial is the whole value as far as it is known, of a task whose output is JSON.
	Partial json.RawMessage `json:"partial,omitempty"`
	// Code is why drafts are retracted.
	Code fate.Code `json:"code,omitempty"`
	// Tenant and Session travel as headers.
	Tenant  string `json:"-"`
	Session string `json:"-"`
}

// Draft begins a draft of the job.
func (j *Job) Draft(event string) Draft {
	return Draft{
		V: Version, ID: j.ID, Task: j.Task, Event: event,
		Run: j.Run, Hop: j.Hop, Delivery: max(j.Arrival.Deliveries, 1), Call: j.Calls,
		Tenant: j.Tenant, Session: j.Session,
	}
}
