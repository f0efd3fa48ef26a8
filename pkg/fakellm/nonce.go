package fakellm

import (
	"hash/maphash"
	"sync"
)

// Nonce returns what answers to an input carry: the FNV-1a 64 hash of its user message, in 16 hex digits.
func Nonce(userContent string) string {
	return formatNonce(hashNonce(userContent))
}

func hashNonce(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func formatNonce(n uint64) string {
	return string(appendNonce(make([]byte, 0, 16), n))
}

func appendNonce(out []byte, n uint64) []byte {
	const hex = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		out = append(out, hex[n>>shift&15])
	}
	return out
}

// nonceTagLength is the length of "[nonce:" and "]" around the 16 digits.
const nonceTagLength = 24

func appendNonceTag(out []byte, n uint64) []byte {
	return append(appendNonce(append(out, "[nonce:"...), n), ']')
}

// dialogue is what the messages of a call mean to this server.
type dialogue struct {
	// input is the user message that the call is about, and nonce its hash.
	input string
	nonce uint64
	// corrections counts the bad answers of this server, after input, that the caller asks to better.
	corrections int
}

// readDialogue walks back from the end over corrections: pairs of an answer that m knows as bad, or as
// given under the same trace, and a user message.
func readDialogue(messages []message, m *memory, trace string) dialogue {
	var d dialogue
	at := lastUser(messages, len(messages))
	for at > 1 && messages[at-1].Role == "assistant" && m.isCorrected(messages[at-1].text(), trace) {
		before := lastUser(messages, at-1)
		if before < 0 {
			break
		}
		d.corrections++
		at = before
	}
	if at < 0 {
		at = len(messages) - 1
	}
	d.input = messages[at].text()
	d.nonce = hashNonce(d.input)
	return d
}

func lastUser(messages []message, before int) int {
	for i := before - 1; i >= 0; i-- {
		if messages[i].Role == "user" {
			return i
		}
	}
	return -1
}

// memory knows the answers that a correction may be about, by hash: the bad ones, and all that were given
// under a trace. It forgets the oldest beyond memorySize.
type memory struct {
	seed maphash.Seed

	mu    sync.RWMutex
	known map[uint64]struct{}
	order []uint64
	next  int
}

const memorySize = 1 << 16

func newMemory() *memory {
	return &memory{seed: maphash.MakeSeed(), known: map[uint64]struct{}{}}
}

func (m *memory) keepBad(content string) { m.keep(m.hash(content, "")) }

func (m *memory) keepTraced(content, trace string) {
	if trace != "" {
		m.keep(m.hash(content, trace))
	}
}

func (m *memory) isCorrected(content, trace string) bool {
	return m.isBad(content) || trace != "" && m.has(m.hash(content, trace))
}

func (m *memory) isBad(content string) bool { return m.has(m.hash(content, "")) }

func (m *memory) hash(content, trace string) uint64 {
	return maphash.String(m.seed, content) ^ scramble(maphash.String(m.seed, trace))
}

func (m *memory) has(h uint64) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.known[h]
	return ok
}

func (m *memory) keep(h uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[h]; ok {
		return
	}
	m.known[h] = struct{}{}
	if len(m.order) < memorySize {
		m.order = append(m.order, h)
		return
	}
	delete(m.known, m.order[m.next])
	m.order[m.next] = h
	m.next = (m.next + 1) % memorySize
}

func (m *memory) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.order, m.next = map[uint64]struct{}{}, nil, 0
}

// traceID takes the trace id out of a W3C traceparent header; "" when there is none.
func traceID(traceparent string) string {
	if len(traceparent) < 55 || traceparent[2] != '-' || traceparent[35] != '-' {
		return ""
	}
	return traceparent[3:35]
}
