package tokens

const readmeHead = `# How well tokens are counted

Written from testdata/published.json by ` + "`go generate ./pkg/tokens`" + `: requests whose whole prompt is public, with
the usage that the provider reported. Messages are counted by the vocabulary o200k_base and the framing of the OpenAI
cookbook; a response format as the text that the provider puts before the model: a heading, its name, its schema.
For OpenAI's models counts are within 1 %, or within one token where that is more. Prompts this short are the worst
case: what is not known about the framing does not grow with them.

The published formats are strict ones; of a strict schema the provider leaves out what every strict schema says
(required, additionalProperties), and so does Spillway when it counts. The schema of a format that is not strict is counted
whole: no published figure was found for these.
`

const readmeSuperseded = `
Until August 2025 a response format took 2 to 10 tokens more than that, most where there was no system message. These
figures show how far a count may be off when the provider changes its ways; no test holds counts to them.
`

const readmeOthers = `
Other vendors have vocabularies of their own. Their models are counted by the nearest one that is public, and
token_safety in models.yaml corrects it.
`

const readmeSafety = `
What token_safety the longest of these prompts asks for, rounded up to a twentieth. Shorter ones say nothing about a
vocabulary: some vendors add up to 40 tokens of their own to each prompt, which the reserve of the window covers.

| model | published | counted, messages only | ratio | token_safety |
|---|--:|--:|--:|--:|
`

const readmeSources = `
Sources: recorded requests in the tests of tidyverse/ellmer, pydantic/pydantic-ai, crmne/ruby_llm, vicentereig/dspy.rb
(MIT) and simonw/llm (Apache-2.0), each with its path. What is left out of strict schemas was first found out in a
thread of openai/openai-cookbook, "Guidance on token counts for structured output schemas".
`
