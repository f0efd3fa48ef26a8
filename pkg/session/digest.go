package session

import (
	"bytes"
	"encoding/json"
)

// Digest says what a prompt shows of a session, for the key of cached answers: two sessions that show the same may
// share an answer. "": it shows nothing. state is JSON; nil, null and {} are none.
func Digest(summary *Summary, turns []Turn, state json.RawMessage) string {
	parts := []string{"", canonical(state)}
	if summary != nil {
		parts[0] = summary.Text
	}
	for _, t := range turns {
		parts = append(parts, t.User, t.Assistant)
	}
	if len(parts) == 2 && parts[0] == "" && parts[1] == "" {
		return ""
	}
	return hash(parts)
}

// canonical has sorted members and no spaces. What is not JSON is taken as it is.
func canonical(state json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(state))
	d.UseNumber()
	var value any
	if len(state) == 0 || d.Decode(&value) != nil {
		return string(state)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return string(state)
	}
	if s := string(text); s != "null" && s != "{}" {
		return s
	}
	return ""
}
