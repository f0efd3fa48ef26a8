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

// Draft is what a model said so far, unchecked, for a request that asked for it. Drafts may be lost, and may come
// after the result: only the result counts.
type Draft struct {
	V     int    `json:"v"`
	ID    string `json:"id"`
	Task  string `json:"task"`
	Event string `json:"event"`
	// Run, Call and Holder tell tries apart: the call of the run, from 1, and the process that makes it. After a
	// crash two processes may make the same call; the newer one says restarted.
	Run    int    `json:"run"`
	Call   int    `json:"call"`
	Holder string `json:"holder,omitempty"`
	// N numbers the drafts of a holder's call, from 1; 0 of what is retracted elsewhere.
	N int `json:"n"`
	// Text is what came since the draft before, of a task whose output is text.
	Text string `json:"text,omitempty"`
	// Partial is the whole value as far as it is known, of a task whose output is JSON.
	Partial json.RawMessage `json:"partial,omitempty"`
	// Code is why drafts are retracted.
	Code fate.Code `json:"code,omitempty"`
}

// Draft begins a draft of the job.
func (j *Job) Draft(event string) Draft {
	return Draft{V: Version, ID: j.ID, Task: j.Task, Event: event, Run: j.Run, Call: j.Calls}
}
