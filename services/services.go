// Package services lists the stages of the pipeline.
package services

import (
	contextbuilder "spillway/services/context-builder"
	"spillway/services/fallback"
	"spillway/services/inference"
	"spillway/services/ingest"
	resultwriter "spillway/services/result-writer"
	"spillway/services/validator"

	"spillway/pkg/stage"
)

// Pipeline is the way of a job, in order: a line per stage, and the only place that names them all.
func Pipeline() []stage.Definition {
	return []stage.Definition{
		ingest.Definition(),
		contextbuilder.Definition(),
		inference.Definition(),
		validator.Definition(),
		fallback.Definition(),
		resultwriter.Definition(),
	}
}
