package door

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// Problem is what a refused request is answered with (RFC 9457).
type Problem struct {
	// Type is urn:spillway:error:<code>.
	Type   string    `json:"type"`
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
	Code   fate.Code `json:"code"`
	// Pointer is a JSON pointer to the place in the request; left out where there is none.
	Pointer *string `json:"pointer,omitempty"`
	// Parameter or Header names the place where it is not the body.
	Parameter string `json:"parameter,omitempty"`
	Header    string `json:"header,omitempty"`
	// Reasons are all faults that were found in the request.
	Reasons []fate.Reason `json:"reasons,omitempty"`
	// ID is the job's, where one is concerned.
	ID string `json:"id,omitempty"`
	// DeadLetter is where the job is kept, of one whose result has expired; "": nowhere.
	DeadLetter string `json:"dead_letter,omitempty"`

	headers http.Header
}

// refuse makes a problem. The detail is for the client: nothing secret, nothing of another tenant.
func refuse(status int, code fate.Code, detail string) *Problem {
	return &Problem{
		Type: "urn:spillway:error:" + string(code), Title: titleOf(code), Status: status, Detail: detail, Code: code,
		headers: http.Header{},
	}
}

func (p *Problem) at(pointer string) *Problem {
	p.Pointer = &pointer
	return p
}

func (p *Problem) of(id string) *Problem {
	p.ID = id
	return p
}

// retryAfter says when to try again, in whole seconds, at least one.
func (p *Problem) retryAfter(d time.Duration) *Problem {
	p.headers.Set("Retry-After", wholeSeconds(d))
	return p
}

// final keeps the official SDKs from repeating what they repeat by themselves: 409 and 5xx.
func (p *Problem) final() *Problem {
	p.headers.Set("X-Should-Retry", "false")
	return p
}

// write answers with the problem.
func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.headers)
	w.Header().Set("Content-Type", "application/problem+json")
	writing(w)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who left needs no answer
}

func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(max(int64((d+time.Second-1)/time.Second), 1), 10)
}

// titleOf is the meaning of a code, as the table of codes has it.
func titleOf(code fate.Code) string {
	for _, d := range fate.Codes() {
		if d.Code == code {
			return d.Meaning
		}
	}
	return string(code)
}

// notFound is said of what is not there and of what is another tenant's: they cannot be told apart.
func notFound(id string) *Problem {
	return refuse(http.StatusNotFound, fate.NotFound, "nothing is known of the job "+job.Cut(id, 64)).of(job.Cut(id, 64))
}
