package task

import (
	"errors"
	"fmt"
)

// ResponseFormat is what of a task's output schema is sent to a model that takes one.
type ResponseFormat struct {
	Schema []byte
	// Shown is what the model sees of it, and what is counted.
	Shown []byte
	// Strict: the schema is the strict form of the task's. What has none is sent as it is written, and the model is
	// less bound by it; why says the reason.
	Strict bool
	Why    error
}

// ResponseFormat is that of the task; its Schema is nil when there is nothing to send. The strict form needs nulls to be
// dropped where a property is optional: a task that rejects them does without.
func (t *Task) ResponseFormat() ResponseFormat {
	if t.Output.ProviderSchema != "auto" || t.Output.Format == FormatText || t.OutputSchema == nil {
		return ResponseFormat{}
	}
	strict, err := t.OutputSchema.Strict()
	if err == nil && strict.NeedsDrop && t.Output.OptionalNull != "drop" {
		err = errors.New("optional_null is not drop, and strict mode makes models say null for an optional property")
	}
	if err != nil {
		return ResponseFormat{Schema: t.OutputSchema.Source(), Shown: t.OutputSchema.Source(), Why: err}
	}
	return ResponseFormat{Schema: strict.Text, Shown: strict.Shown, Strict: true}
}

// FormatJSONSchema is the structured_output of a model that is sent the schema.
const FormatJSONSchema = "json_schema"

// FormatFor is what is asked for in a call to a model: FormatJSONSchema, json_object, or "" for nothing. why says what
// keeps the model from being bound to the output schema; nil: it is.
func (t *Task) FormatFor(m *Model) (kind string, why error) {
	format := t.ResponseFormat()
	switch {
	case t.Output.Format == FormatText:
		return "", errors.New("output.format is text")
	case format.Schema == nil:
		return "", errors.New("output.provider_schema is " + t.Output.ProviderSchema)
	case m.StructuredOutput == FormatJSONSchema:
		return FormatJSONSchema, format.Why
	case m.StructuredOutput == "none":
		return "", fmt.Errorf("structured_output of model %s in %s is none", m.Name, modelsFile)
	}
	return m.StructuredOutput, fmt.Errorf("structured_output of model %s in %s is %s", m.Name, modelsFile, m.StructuredOutput)
}
