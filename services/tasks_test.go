package services_test

import (
	"fmt"
	"strings"
	"testing/fstest"
)

// The tasks of the rig: toy has the whole ladder, bare none, models no canned rung; plain answers in text.
const (
	ladderWhole  = "ladder:\n  - {rung: cache, max_age: 1h}\n  - {rung: model, model: large}\n  - {rung: canned}\n"
	ladderModels = "ladder:\n  - {rung: cache, max_age: 1h}\n  - {rung: model, model: large}\n"
	ladderNone   = "ladder: []\nno_ladder: the test wants to see the failure\n"
)

const taskYAML = `model: small
parameters: {max_output_tokens: 300}
deadline: {default: 20s, max: 10m, reserve: 1s}
retry: {attempts: 5, max_calls: 6, first_delay: 10ms, factor: 1.5, max_delay: 50ms, jitter: 0.1, retry_after_max: 5s, interactive: {attempts: 2, first_delay: 10ms}}
`

const (
	inputSchema  = `{"type":"object","properties":{"text":{"type":"string","minLength":1}},"required":["text"],"additionalProperties":false}`
	outputSchema = `{"type":"object","properties":{"says":{"type":"string"},"mood":{"enum":["good","bad"]}},"required":["says","mood"],"additionalProperties":false}`
	promptTmpl   = `{{define "system"}}Answer in JSON. {{.Schema}}{{end}}{{define "user"}}{{.Input.text}}{{end}}`
	cannedYAML   = "- output: {says: canned, mood: good}\n"
)

func folder(first, second string) fstest.MapFS {
	fs := fstest.MapFS{"models.yaml": {Data: []byte(modelsYAML(defaultLimits, small("small", "one", first), large("large", "two", second)))}}
	addCanned(fs, "toy", taskYAML+ladderWhole)
	addTask(fs, "models", taskYAML+ladderModels)
	addTask(fs, "bare", taskYAML+ladderNone)
	fs["tasks/plain/task.yaml"] = &fstest.MapFile{Data: []byte(taskYAML + "output: {format: text}\n" + ladderNone)}
	fs["tasks/plain/prompt.tmpl"] = &fstest.MapFile{Data: []byte(`{{define "user"}}{{.Input.text}}{{end}}`)}
	return fs
}

func addTask(fs fstest.MapFS, name, yaml string) {
	fs["tasks/"+name+"/task.yaml"] = &fstest.MapFile{Data: []byte(yaml)}
	fs["tasks/"+name+"/prompt.tmpl"] = &fstest.MapFile{Data: []byte(promptTmpl)}
	fs["tasks/"+name+"/input.schema.json"] = &fstest.MapFile{Data: []byte(inputSchema)}
	fs["tasks/"+name+"/output.schema.json"] = &fstest.MapFile{Data: []byte(outputSchema)}
}

// addCanned adds a task with a canned answer.
func addCanned(fs fstest.MapFS, name, yaml string) {
	addTask(fs, name, yaml)
	fs["tasks/"+name+"/canned.yaml"] = &fstest.MapFile{Data: []byte(cannedYAML)}
}

// model is an entry of models.yaml; its provider is an entry too, once for all models that name it.
type model struct {
	name, provider, url string
	rest                string
}

func small(name, provider, url string) model {
	return model{name, provider, url, `id: small-1, context_window: 16000, prices: {as_of: "2026-11-01", input: 1, output: 2}`}
}

func large(name, provider, url string) model {
	return model{name, provider, url, `id: large-1, context_window: 32000, prices: {as_of: "2026-11-01", input: 10, output: 20}`}
}

// as gives a small model another name at its provider.
func (m model) as(id string) model {
	m.rest = strings.Replace(m.rest, "small-1", id, 1)
	return m
}

// defaultLimits are the timeouts of the rig's models. Their breakers open by the defaults and for a minute,
// which is longer than a test.
const defaultLimits = "timeouts: {connect: 1s, first_token: 1s, silence: 1s, call: 2s}"

// halfOpenAfter are defaultLimits with a short time until the first probe.
func halfOpenAfter(wait string) string {
	return defaultLimits + "\n  breaker: {half_open_after: " + wait + "}"
}

func modelsYAML(limits string, models ...model) string {
	var b strings.Builder
	fmt.Fprintf(&b, "defaults:\n  %s\nproviders:\n", limits)
	for provider, url := range providersOf(models) {
		fmt.Fprintf(&b, "  %s: {kind: openai, base_url: %q, api_key: none}\n", provider, url)
	}
	b.WriteString("models:\n")
	for _, m := range models {
		fmt.Fprintf(&b, "  %s: {provider: %s, max_output_tokens: 2000, encoding: o200k_base, structured_output: json_schema, max_tokens_field: max_tokens, %s}\n", m.name, m.provider, m.rest)
	}
	return b.String()
}

func providersOf(models []model) map[string]string {
	urls := map[string]string{}
	for _, m := range models {
		urls[m.provider] = m.url
	}
	return urls
}

// taskOn is a task that is called on first and has other on its ladder, instead of small and large.
func taskOn(first, other, ladder string) string {
	return strings.NewReplacer("model: small", "model: "+first, "model: large", "model: "+other).Replace(taskYAML + ladder)
}
