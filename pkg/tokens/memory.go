package tokens

import "sync"

const (
	// worthRemembering is the length, in bytes, from which looking a count up is cheaper than counting.
	worthRemembering = 64
	// generation bounds the memory: it holds at most two of them, about 100 KB.
	generation = 512
)

// key stands for a text. The hash has a random seed, so nobody can make two texts collide on purpose.
type key struct {
	encoding string
	length   int
	hash     uint64
}

// memory keeps counts of the texts that come again with each job: system prompts, examples, schemas. What
// is not asked for while a whole generation of other texts goes by is forgotten.
type memory struct {
	mu          sync.Mutex
	young, aged map[key]int
}

func (m *memory) get(k key) (n int, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, known = m.young[k]; known {
		return n, true
	}
	if n, known = m.aged[k]; known {
		m.add(k, n)
	}
	return n, known
}

func (m *memory) put(k key, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(k, n)
}

func (m *memory) add(k key, n int) {
	if m.young == nil || len(m.young) >= generation {
		m.young, m.aged = make(map[key]int, generation), m.young
	}
	m.young[k] = n
}
