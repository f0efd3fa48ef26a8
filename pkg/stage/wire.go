package stage

import (
	"bytes"
	"errors"
	"fmt"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/job"
)

// A job travels as a line of JSON, and behind it what most stages only pass on: the input, the client's
// metadata, the prompt, each on a line of its own, as they are. They are most of a job's bytes, and are
// copied from one message into the next without being read. A message of one line is a job all the same:
// then these parts stand in the JSON, as they do in a dead letter.
//
//	{"v":1,"id":"01J…","task":"…", … ,"parts":[1532,14,1611]}
//	{"text":"…"}
//	{"any":"thing"}
//	[{"role":"user","content":"…"}]

// head is the first line.
type head struct {
	*job.Job
	// Parts are the lengths, in bytes, of input, metadata and prompt.
	Parts *[3]int `json:"parts,omitempty"`
}

var errParts = errors.New("the parts of the job are not as long as it says")

// encode makes the message of a job.
func encode(j *job.Job) ([]byte, error) {
	light := *j
	light.Input, light.Metadata, light.Prompt = nil, nil, job.Prompt{}
	parts := [3][]byte{j.Input, j.Metadata, j.Prompt.Encoded()}
	line, err := json.Marshal(head{&light, &[3]int{len(parts[0]), len(parts[1]), len(parts[2])}})
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", j.ID, err)
	}
	size := len(line) + len(parts)
	for _, part := range parts {
		size += len(part)
	}
	message := append(make([]byte, 0, size), line...)
	for _, part := range parts {
		message = append(append(message, '\n'), part...)
	}
	return message, nil
}

// decode reads a message. The job's parts share its memory.
func decode(message []byte) (*job.Job, error) {
	line, rest, more := bytes.Cut(message, []byte("\n"))
	h := head{Job: &job.Job{}}
	if !more {
		return h.Job, json.Unmarshal(message, h.Job)
	}
	if err := json.Unmarshal(line, &h); err != nil || h.Parts == nil {
		// JSON of several lines, as people and their tools write it
		h = head{Job: &job.Job{}}
		return h.Job, json.Unmarshal(message, h.Job)
	}
	var parts [3][]byte
	for i, size := range h.Parts {
		if i > 0 {
			if len(rest) == 0 || rest[0] != '\n' {
				return nil, errParts
			}
			rest = rest[1:]
		}
		if size < 0 || size > len(rest) {
			return nil, errParts
		}
		if size > 0 {
			parts[i] = rest[:size:size]
		}
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return nil, errParts
	}
	h.Job.Input, h.Job.Metadata, h.Job.Prompt = parts[0], parts[1], job.PromptOf(parts[2])
	return h.Job, nil
}
