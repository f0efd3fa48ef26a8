package session

import (
	"bytes"
	"encoding/json"
	"fmt"

	"spillway/pkg/job"
)

// compactTokens bounds the summary that Compact makes, in tokens of four bytes.
const compactTokens = 1000

// longest is where Compact begins to cut texts, in bytes.
const longest = 64 << 10

// Compact shrinks a session whose JSON is larger than limit until it fits: the oldest turns are extracted into the
// summary, then long texts are cut, and inputs left out, then turns are dropped. State, places and totals stay. It
// reports whether it had to. A limit is met from MaxBytes on, and by any that holds what stays.
func (s *Session) Compact(limit int) bool {
	size := s.size()
	if size <= limit {
		return false
	}
	s.extractDown(size-limit, 1)
	for most := longest; s.size() > limit && most > 0; most /= 2 {
		s.cut(most)
	}
	if s.size() > limit {
		s.extractDown(size, 0)
		s.cut(0)
	}
	return true
}

// extractDown extracts the oldest turns that make at least excess bytes, all but the newest stay ones at most.
func (s *Session) extractDown(excess, stay int) {
	excess += compactTokens * 4
	n := 0
	for ; n < len(s.Turns)-stay && excess > 0; n++ {
		excess -= sizeOf(s.Turns[n])
	}
	if n == 0 {
		return
	}
	through := s.Turns[n-1].Place
	leaving := s.Turns[:n]
	made := Extract(s.Summary, leaving, compactTokens, func(text string) int { return (len(text) + 3) / 4 })
	s.Fold = nil // it would speak of turns that are not there any more
	s.Folded(through, made)
}

// cut shortens every text to at most most bytes, and leaves out longer inputs.
func (s *Session) cut(most int) {
	for i := range s.Turns {
		t := &s.Turns[i]
		if len(t.User) > most || len(t.Assistant) > most {
			t.User, t.Assistant, t.Counts = job.Cut(t.User, most), job.Cut(t.Assistant, most), nil
		}
	}
	for i := range s.Pending {
		p := &s.Pending[i]
		if p.User = job.Cut(p.User, most); len(p.Input) > most {
			p.Input = nil
		}
	}
	if s.Summary != nil && len(s.Summary.Text) > most {
		s.Summary.Text, s.Summary.Counts = job.Cut(s.Summary.Text, most), nil
	}
}

func (s *Session) size() int { return sizeOf(s) }

func sizeOf(v any) int {
	data, err := encode(v)
	if err != nil {
		return 0 // Update says so
	}
	return len(data)
}

// encode makes JSON without the escapes that a web page needs: they would make six bytes of one.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode a session: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
