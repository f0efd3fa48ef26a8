package tokens

// formatFraming is what a response format takes beside its text. GPT-4o and 4.1 take one token less, GPT-5 without a
// system message one more: it stands between them (README.md).
const formatFraming = 2

// CountFormat returns the tokens of a response format that is sent along with a prompt: the provider puts its
// name and schema before the model as text, and counts them. schema is the text as it is put there
// (task.ResponseFormat).
func (c *Counter) CountFormat(encoding, name, schema string) (int, error) {
	n, err := c.Count(encoding, "# Response Formats\n\n## "+name+"\n\n"+schema)
	return n + formatFraming, err
}
