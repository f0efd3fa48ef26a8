package fallback

import "sync"

// seen remembers which runs have results while the index is filled; then it is forgotten.
type seen struct {
	mu   sync.Mutex
	runs map[string]int
}

func newSeen() *seen { return &seen{runs: map[string]int{}} }

func (s *seen) add(id string, run int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs != nil {
		s.runs[id] = max(s.runs[id], run)
	}
}

func (s *seen) run(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[id]
}

func (s *seen) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = nil
}
