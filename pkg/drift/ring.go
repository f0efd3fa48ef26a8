package drift

const wordBits = 64

// ring holds the newest answers, a bit each: 1 is a bad one.
type ring struct {
	words   []uint64
	size, n int
	// next is where the next one goes.
	next int
	bad  int
}

func newRing(size int) ring {
	return ring{words: make([]uint64, (size+wordBits-1)/wordBits), size: size}
}

// push adds an answer. A full ring forgets its oldest.
func (r *ring) push(bad bool) {
	if r.n == r.size {
		r.pop()
	}
	mask := uint64(1) << (r.next % wordBits)
	if bad {
		r.words[r.next/wordBits] |= mask
		r.bad++
	} else {
		r.words[r.next/wordBits] &^= mask
	}
	r.next = (r.next + 1) % r.size
	r.n++
}

// pop forgets the oldest and returns it.
func (r *ring) pop() (bad bool) {
	bad = r.newest(r.n - 1)
	r.n--
	if bad {
		r.bad--
	}
	return bad
}

// newest is the answer before which i came since; i is below n.
func (r *ring) newest(i int) (bad bool) {
	at := (r.next - 1 - i + r.size) % r.size
	return r.words[at/wordBits]>>(at%wordBits)&1 == 1
}

func (r *ring) clear() { r.n, r.next, r.bad = 0, 0, 0 }
