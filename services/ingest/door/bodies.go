package door

import (
	"errors"
	"io"
	"sync"
)

const (
	// maxBodies bounds what the requests that are being stored take at once, in bytes: when JetStream is slow, the
	// others are told to come again instead of filling the memory.
	maxBodies = 64 << 20
	// maxShare is what those of one tenant may take of it.
	maxShare = maxBodies / 4
)

// errFull is why a body is not taken in.
var errFull = errors.New("too many requests are being stored")

// bodies counts the bytes of requests that have arrived and are not stored yet.
type bodies struct {
	most, mostOfOne int // of all, and of one tenant

	mu    sync.Mutex
	all   int
	share map[string]int // by tenant; "": where no keys are asked for
}

func newBodies(most, mostOfOne int) *bodies {
	return &bodies{most: most, mostOfOne: mostOfOne, share: map[string]int{}}
}

// hold takes bytes of a tenant in; false: there is no room. Where no keys are asked for, nobody else is held off.
func (b *bodies) hold(tenant string, bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all+bytes > b.most || tenant != "" && b.share[tenant]+bytes > b.mostOfOne {
		return false
	}
	b.all += bytes
	b.share[tenant] += bytes
	return true
}

func (b *bodies) release(tenant string, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all -= bytes
	if b.share[tenant] -= bytes; b.share[tenant] == 0 {
		delete(b.share, tenant)
	}
}

// arriving counts a body in as it comes: who announces much and sends little takes little.
type arriving struct {
	io.Reader
	bodies *bodies
	tenant string
	held   int
}

func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 && !a.bodies.hold(a.tenant, n) {
		return 0, errFull
	}
	a.held += n
	return n, err
}

func (a *arriving) release() { a.bodies.release(a.tenant, a.held) }
