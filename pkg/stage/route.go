package stage

import (
	"fmt"
	"slices"

	"spillway/pkg/job"
)

// route knows where a stage may hand jobs on, from the pipeline's definitions alone.
type route struct {
	self  string
	next  string   // the next stage of the main line
	ends  bool     // the main line ends here
	named []string // stages that a handler may name
}

// newRoute finds the next stage on the main line behind self. Stages aside of it are passed over.
func newRoute(defs []Definition, self string) route {
	r := route{self: self}
	seen := false
	for _, d := range defs {
		switch {
		case d.Name == self:
			seen = true
			r.named = d.SendsOn
			if d.Aside {
				seen = false
			}
		case seen && !d.Aside && r.next == "":
			r.next = d.Name
		}
	}
	r.ends = seen && r.next == ""
	return r
}

// target is the stage that gets j when its handler returned nil. "" with a nil error: nobody, j is done.
func (r route) target(j *job.Job) (string, error) {
	switch {
	case j.To == "" && r.next == "" && !r.ends:
		return "", fmt.Errorf("%s let the job go on without saying where to", r.self)
	case j.To == "":
		return r.next, nil
	case j.To == r.next || slices.Contains(r.named, j.To):
		return j.To, nil
	}
	return "", fmt.Errorf("%s may not send to %s", r.self, j.To)
}
