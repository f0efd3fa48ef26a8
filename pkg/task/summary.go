package task

import (
	"encoding/json"
	"strconv"

	"spillway/pkg/schema"
)

// SummaryMember is where the summary stands in the output of a task that answers with an object.
const SummaryMember = "summary"

// SummaryInput is the input of a task that makes summaries: the summary so far, "" at first, the turns that are to be
// folded into it, each a {role, content}, and how long the new one may be.
func SummaryInput(before string, turns []any, maxTokens any) map[string]any {
	return map[string]any{"summary": before, "turns": turns, "max_tokens": maxTokens}
}

// checkSummaries holds the tasks that have summaries made to those that make them.
func (l *loader) checkSummaries() {
	for _, place := range l.summaries {
		summary, ok := l.set.Tasks[place.node.text]
		switch {
		case place.node.text == place.task:
			l.at(place.file, place.node, "a task can not make its own summaries")
			continue
		case !ok:
			l.at(place.file, place.node, "there is no task %q%s", place.node.text, didYouMean(place.node.text, l.set.Tasks))
			continue
		case summary.Context.Session != SessionNone:
			l.at(place.file, place.node, "the task %q must have no session of its own to make summaries: context.session is %s", summary.Name, summary.Context.Session)
		case !summary.saysSummary():
			l.at(place.file, place.node, `the task %q must answer with a text (output.format: text), or an object with a required string "summary", to make summaries`, summary.Name)
		}
		if asks := l.set.Tasks[place.task]; asks != nil && asks.Redaction.LogContent == LogNever && summary.Redaction.LogContent != LogNever {
			l.at(place.file, place.node, "the task %q is given what was said here, which nobody is to look at: it must have redaction.log_content: never, too", summary.Name)
		}
		l.summaryTakes(place, summary)
	}
}

// saysSummary reports whether a summary can be taken out of each output of the task.
func (t *Task) saysSummary() bool {
	if t.Output.Format == FormatText || t.OutputSchema == nil {
		return true // json without a schema is a fault already
	}
	for _, fill := range []schema.Fill{schema.RequiredOnly, schema.Nulls} {
		output, _ := t.OutputSchema.Sample(fill)
		members, _ := output.(map[string]any)
		if _, isText := members[SummaryMember].(string); !isText {
			return false
		}
	}
	return true
}

// summaryTakes reports what the task does not take of the inputs that it would be given.
func (l *loader) summaryTakes(place summaryPlace, summary *Task) {
	if summary.Input == nil {
		return
	}
	turns := []any{
		map[string]any{"role": "user", "content": "Where is my order?"},
		map[string]any{"role": "assistant", "content": "On its way."},
	}
	for _, before := range []string{"", "The user has an order."} {
		for _, violation := range summary.Input.Validate(SummaryInput(before, turns, json.Number(strconv.Itoa(place.maxTokens)))) {
			l.at(place.file, place.node, `the task %q does not take what it is given to make summaries, {"summary", "turns": [{"role", "content"}], "max_tokens"}: %s`, summary.Name, violation)
			return
		}
	}
}
