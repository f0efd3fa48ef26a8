package task

import "errors"

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
