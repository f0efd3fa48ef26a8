package stage

import (
	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// PublishDraft tells a draft to whoever listens. It may be lost: nothing depends on its arrival.
func PublishDraft(c *broker.Conn, d job.Draft) {
	body, err := json.Marshal(d)
	if err != nil {
		return
	}
	_ = c.NC.Publish(broker.DeltaSubject(d.Task, d.ID), body)
}
