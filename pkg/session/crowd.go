package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// crowds are the requests of this process that join sessions. Of those that come to one session at once the first
// leads: it takes with it all that come before the record is written, so that a flood is a few writes, not one each.
type crowds struct {
	mu sync.Mutex
	// waiting are those that come behind the leader, by session; a session that is not there has none.
	waiting map[string][]*joiner
}

// joiner is a request that joins.
type joiner struct {
	Pending
	told chan verdict
	left bool // it waits no longer
}

// verdict is how a join ended, or that it is the joiner's turn to lead.
type verdict struct {
	err  error
	lead bool
}

// Join notes a request with its session; see Session.Join and Update.
func (st *Store) Join(ctx context.Context, tenant, task, name string, keep time.Duration, p Pending) error {
	key := KeyOf(tenant, task, name)
	me := &joiner{Pending: p, told: make(chan verdict, 1)}
	if !st.crowds.enter(key, me) {
		select {
		case v := <-me.told:
			if !v.lead {
				return v.err
			}
		case <-ctx.Done():
			st.crowds.leave(key, me)
			return fmt.Errorf("join session %s: %w", name, context.Cause(ctx))
		}
	}
	defer st.crowds.pass(key)
	crowd, errs := []*joiner{me}, []error{nil}
	_, err := st.Update(ctx, tenant, task, name, keep, func(s *Session) (write bool, _ error) {
		crowd = append(crowd, st.crowds.take(key)...)
		errs = make([]error, len(crowd))
		for i, j := range crowd {
			changed, err := s.Join(j.Pending)
			write, errs[i] = write || changed, err
		}
		return write, nil
	})
	if err != nil && ctx.Err() != nil {
		st.crowds.putBack(key, crowd[1:]) // it is the leader who gives up, not they
		return err
	}
	for i, j := range crowd[1:] {
		if err != nil {
			errs[i+1] = err
		}
		j.told <- verdict{err: errs[i+1]}
	}
	if err != nil {
		return err
	}
	return errs[0]
}

// enter makes j the leader if there is none; else it waits to be told.
func (c *crowds) enter(key string, j *joiner) (leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	behind, led := c.waiting[key]
	if led {
		behind = append(behind, j)
	}
	c.waiting[key] = behind
	return !led
}

// take hands those that wait to the leader.
func (c *crowds) take(key string) []*joiner {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waiting[key]
	c.waiting[key] = nil
	return all
}

func (c *crowds) putBack(key string, all []*joiner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = slices.DeleteFunc(all, func(j *joiner) bool { return j.left })
	c.waiting[key] = append(all, c.waiting[key]...)
}

// pass ends the lead: the first that waits has it now.
func (c *crowds) pass(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waiting[key]
	if len(all) == 0 {
		delete(c.waiting, key)
		return
	}
	c.waiting[key] = all[1:]
	all[0].told <- verdict{lead: true}
}

// leave is for one that waits no longer. What it was told meanwhile concerns nobody, but that it is to lead.
func (c *crowds) leave(key string, j *joiner) {
	c.mu.Lock()
	j.left = true
	if behind, led := c.waiting[key]; led {
		c.waiting[key] = slices.DeleteFunc(behind, func(other *joiner) bool { return other == j })
	}
	var last verdict
	select {
	case last = <-j.told:
	default:
	}
	c.mu.Unlock()
	if last.lead {
		c.pass(key)
	}
}
