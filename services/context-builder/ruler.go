package contextbuilder

import (
	"fmt"
	"math"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
	"spillway/pkg/tokens"
)

// size is what a part of a prompt takes. The tokens are before the model's safety factor, so that they add up.
type size struct{ tokens, bytes int }

func (s size) plus(o size) size { return size{s.tokens + o.tokens, s.bytes + o.bytes} }

func (s size) less(o size) size { return size{s.tokens - o.tokens, s.bytes - o.bytes} }

// framing is what the form of a chat takes in an encoding: the beginning of the reply, and a message of each role
// beside its content.
type framing struct{ reply, system, user, assistant int }

func (f framing) of(role string) int {
	switch role {
	case roleSystem:
		return f.system
	case roleAssistant:
		return f.assistant
	}
	return f.user
}

// ruler measures as a model counts.
type ruler struct {
	counter  *tokens.Counter
	encoding string
	safety   float64
	framing  framing
}

// rulerOf fails when the model's encoding is not known.
func (h *Handler) rulerOf(m *task.Model) (ruler, error) {
	r := ruler{counter: h.counter, encoding: m.Encoding, safety: m.TokenSafety}
	if known, ok := h.framings.Load(m.Encoding); ok {
		r.framing, _ = known.(framing)
		return r, nil
	}
	reply, err := h.counter.CountMessages(m.Encoding, nil)
	if err != nil {
		return r, uncounted(m.Encoding, err)
	}
	r.framing.reply = reply
	for role, into := range map[string]*int{roleSystem: &r.framing.system, roleUser: &r.framing.user, roleAssistant: &r.framing.assistant} {
		n, err := h.counter.CountMessages(m.Encoding, []job.Message{{Role: role}})
		if err != nil {
			return r, uncounted(m.Encoding, err)
		}
		*into = n - reply
	}
	h.framings.Store(m.Encoding, r.framing)
	return r, nil
}

// content measures a text without the framing of its message.
func (r *ruler) content(text string) (size, error) {
	n, err := r.counter.Count(r.encoding, text)
	if err != nil {
		return size{}, uncounted(r.encoding, err)
	}
	return size{n, len(text)}, nil
}

// scaled is what the model is expected to count for so many tokens of this ruler.
func (r *ruler) scaled(n int) int {
	if r.safety > 0 {
		return int(math.Ceil(float64(n) * r.safety))
	}
	return n
}

func uncounted(encoding string, err error) error {
	return fate.DivertTo(fate.Internal, fmt.Sprintf("tokens of the encoding %s can not be counted", encoding), err)
}
