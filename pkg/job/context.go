package job

// The sections of a prompt, in the order in which they are told. Framing is what the form of a chat takes: roles,
// borders of messages, the beginning of the reply.
const (
	SectionSystem         = "system"
	SectionExamples       = "examples"
	SectionSummary        = "summary"
	SectionTurns          = "turns"
	SectionDocuments      = "documents"
	SectionInput          = "input"
	SectionResponseFormat = "response_format"
	SectionFraming        = "framing"
)

// Section is a part of a prompt: the tokens of all of them are those of the prompt. One that a prompt has nothing of,
// and that nothing was left out of, is not told.
type Section struct {
	Name   string `json:"name"`
	Tokens int    `json:"tokens"`
	// Kept and Dropped are summaries, turns, documents: how many stand in the prompt, and how many did not fit.
	Kept    int `json:"kept,omitempty"`
	Dropped int `json:"dropped,omitempty"`
}

// Context is what a model was shown, kept for a while for whoever asks.
type Context struct {
	V     int    `json:"v"`
	ID    string `json:"id"`
	Run   int    `json:"run"`
	Hop   int    `json:"hop"`
	Task  string `json:"task"`
	Model string `json:"model"`
	// Tokens is the count of the prompt, Budget the most that it may have.
	Tokens   int            `json:"tokens"`
	Budget   int            `json:"budget"`
	Sections []ShownSection `json:"sections"`
	Price    ShownPrice     `json:"price"`
}

// ShownSection is a section with its messages. Documents stand in the messages that the template puts them into.
type ShownSection struct {
	Section
	Messages []Message `json:"messages,omitempty"`
}

// ShownPrice is what the prompt costs, in USD, by the prices of a date; "": models.yaml does not say which.
type ShownPrice struct {
	USD  float64 `json:"usd"`
	AsOf string  `json:"as_of"`
}
