package apikey

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
)

// Ring knows all keys, and hears of new and revoked ones as they are stored. It is safe for concurrent use, and asks
// nobody: without the broker it goes by what it knows.
type Ring struct {
	conn *broker.Conn
	log  zerolog.Logger

	unhook, unfollow, cancel func()
	// again asks for a look at the bucket; done is closed when nobody looks any more.
	again chan struct{}
	done  chan struct{}

	mu sync.RWMutex
	// giveUp ends the look that is under way.
	giveUp context.CancelFunc
	keys   map[string]entry // by id
	// seals are what tokens are signed with, the newest first, and the revision of their record.
	seals   []seal
	sealsAt uint64
}

// entry is what a ring knows of an id. The key is nil when it was removed, or cannot be read, and never changed.
type entry struct {
	key      *Key
	hash     hash
	revision uint64
}

const (
	// startTimeout bounds the first look, lookTimeout each later one: both are longer than an election.
	startTimeout = 30 * time.Second
	lookTimeout  = 10 * time.Second
	// lookEvery is for what a follower may have missed without noticing; lookAgain is after a look that failed.
	lookEvery = time.Minute
	lookAgain = time.Second
)

// Follow returns a ring that knows all keys, until it is closed. It makes what tokens are signed with, unless another
// process has.
func Follow(ctx context.Context, conn *broker.Conn, log zerolog.Logger) (*Ring, error) {
	r := &Ring{conn: conn, log: log, again: make(chan struct{}, 1), done: make(chan struct{}), keys: map[string]entry{}}
	start, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	r.unhook = conn.OnReconnect(r.lookAnew)
	err := r.look(start)
	if err == nil {
		r.unfollow, err = conn.FollowRecords(start, broker.KeysBucket, r.learn)
	}
	if err != nil {
		r.unhook()
		return nil, err
	}
	own, cancelOwn := context.WithCancel(context.WithoutCancel(ctx)) // it lives until Close
	r.cancel = cancelOwn
	go r.keepLooking(own)
	return r, nil
}

// Close ends the following; what is known then is known for ever.
func (r *Ring) Close() {
	r.unhook()
	r.cancel()
	<-r.done
	r.unfollow()
}

// Len is the number of keys in force.
func (r *Ring) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, e := range r.keys {
		if e.key != nil && !e.key.Revoked() {
			n++
		}
	}
	return n
}

// Check returns the key whose secret this is, which the caller does not change. ErrUnknown for anything else, ErrRevoked
// for the secret of a revoked key. How long it takes says nothing about stored secrets.
func (r *Ring) Check(secret string) (*Key, error) {
	id := idOf(secret)
	e := r.entry(id)
	sum := sha256.Sum256([]byte(secret[:min(len(secret), secretLength)]))
	isHolder := subtle.ConstantTimeCompare(sum[:], e.hash[:]) == 1 // of no id, with a hash of nothing
	if id == "" || !isHolder {
		return nil, ErrUnknown
	}
	return e.inForce()
}

// Key returns the key with an id, for whoever was let in by it before. ErrUnknown, ErrRevoked.
func (r *Ring) Key(id string) (*Key, error) { return r.entry(id).inForce() }

func (r *Ring) entry(id string) entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[id]
}

func (e entry) inForce() (*Key, error) {
	switch {
	case e.key == nil:
		return nil, ErrUnknown
	case e.key.Revoked():
		return nil, ErrRevoked
	}
	return e.key, nil
}

// learn takes a record of the bucket over, unless a newer one is known.
func (r *Ring) learn(stored broker.Record) {
	if stored.Key == signingKey {
		r.learnSeals(stored)
		return
	}
	id, isKey := strings.CutPrefix(stored.Key, keyPrefix)
	if !isKey {
		return
	}
	e := entry{revision: stored.Revision}
	if stored.Data != nil {
		read, sum, err := decode(id, stored.Data)
		if err == nil {
			e.key, e.hash = &read.Key, sum
		} else if r.entry(id).revision < stored.Revision {
			r.log.Error().Err(err).Msg("an API key cannot be read, it counts as unknown")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys[id].revision < e.revision {
		r.keys[id] = e
	}
}

// learnSeals does for what tokens are signed with. What cannot be read changes nothing.
func (r *Ring) learnSeals(stored broker.Record) {
	seals, err := decodeSigning(stored.Data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sealsAt >= stored.Revision {
		return
	}
	r.sealsAt = stored.Revision
	if err != nil {
		r.log.Error().Err(err).Msg("tokens are signed and verified as before")
		return
	}
	r.seals = seals
}

// lookAnew asks for a look. One that is under way may wait for an answer that was lost with the connection.
func (r *Ring) lookAnew() {
	select {
	case r.again <- struct{}{}:
	default: // it is asked for
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.giveUp != nil {
		r.giveUp()
	}
}

// keepLooking looks at the bucket after each reconnect and now and then: what follows it would notice a server that
// was restarted only when its heartbeats stay away, and a revocation is not to wait for that.
func (r *Ring) keepLooking(ctx context.Context) {
	defer close(r.done)
	next := time.NewTimer(lookEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.again:
		case <-next.C:
		}
		wait := lookEvery
		if r.conn.NC.IsConnected() { // else the reconnect asks
			if err := r.lookOnce(ctx); err != nil && !errors.Is(err, context.Canceled) {
				r.log.Warn().Err(err).Msg("the API keys could not be looked at, repeating")
				wait = lookAgain
			}
		}
		next.Reset(wait)
	}
}

func (r *Ring) lookOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	r.mu.Lock()
	r.giveUp = cancel
	r.mu.Unlock()
	return r.look(ctx)
}

// look reads the whole bucket, as its leader has it: a key that was made before the start is known after it.
func (r *Ring) look(ctx context.Context) error {
	if err := renewSigning(ctx, r.conn, false); err != nil {
		return err
	}
	all, err := r.conn.RecordsNow(ctx, broker.KeysBucket)
	if err != nil {
		return err
	}
	for _, stored := range all {
		r.learn(stored)
	}
	return nil
}
