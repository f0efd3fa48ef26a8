package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"spillway/pkg/metric"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
)

// working is a stage at work in this process.
type working struct {
	def    stage.Definition
	runner *stage.Runner
	// madeOf is what its handler was made of.
	madeOf string
	// leave lets it finish what it holds, hurry for no longer than the grace.
	leave, hurry context.CancelFunc
	done         chan struct{} // closed when it has left
}

const (
	// maxReplaced is how many stages finish what they hold, in this process, while others have taken over: a next change
	// waits until one of them has left.
	maxReplaced = 2
	// renewPause gathers changes that come together.
	renewPause = 100 * time.Millisecond
)

// prepare makes the stages.
func (p *process) prepare(names []string) error {
	for _, name := range names {
		w, err := p.newWorking(name, p.env)
		if err != nil {
			return err
		}
		p.at = append(p.at, w)
	}
	return nil
}

func (p *process) newWorking(name string, env *stage.Env) (*working, error) {
	defs := services.Pipeline()
	w := &working{leave: func() {}, hurry: func() {}, done: make(chan struct{})}
	for _, d := range defs {
		if d.Name == name {
			w.def = d
		}
	}
	if w.def.MadeOf != nil {
		w.madeOf = w.def.MadeOf(env)
	}
	var err error
	if w.runner, err = stage.NewRunner(defs, name, env, p.grace); err != nil {
		return nil, err
	}
	return w, nil
}

// start lets the stages work, and others in their place when what they are made of changes.
func (p *process) start(ctx context.Context, group *errgroup.Group) {
	p.mu.Lock()
	for i := range p.at {
		if next, err := p.renewed(p.at[i]); err == nil && next != nil { // renew tells of the error
			p.at[i] = next
		}
		p.launch(ctx, group, p.at[i])
	}
	p.mu.Unlock()
	p.look()
	group.Go(func() error { return p.renew(ctx, group) })
}

// launch needs p.mu.
func (p *process) launch(ctx context.Context, group *errgroup.Group, w *working) {
	life, hurry := context.WithCancel(ctx)
	own, leave := context.WithCancel(life)
	w.leave, w.hurry = leave, hurry
	group.Go(func() error {
		defer close(w.done)
		defer hurry()
		defer leave()
		return w.runner.RunWithin(own, life)
	})
}

// look asks for a look at what the stages are made of.
func (p *process) look() {
	select {
	case p.changed <- struct{}{}:
	default: // it is asked for
	}
}

// renew replaces the stages that are made of something else than what is there, until ctx ends.
func (p *process) renew(ctx context.Context, group *errgroup.Group) error {
	pause := time.NewTicker(renewPause)
	defer pause.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		}
		for i := range p.at { // which only this goroutine changes now
			err := p.renewOne(ctx, group, i)
			if err != nil && err.Error() != told {
				told = err.Error()
				p.env.Log.Error().Err(err).Str("stage", p.at[i].def.Name).Msg("the stage goes on with the models that it had")
			}
			if err == nil && p.at[i].def.MadeOf != nil {
				told = ""
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
	}
}

// renewOne lets another stage take the place of the i-th one, which finishes what it holds: to cut a call that is paid for
// saves nothing in a process that goes on. Only where that keeps a change waiting, it has no longer than the grace.
func (p *process) renewOne(ctx context.Context, group *errgroup.Group, i int) error {
	old := p.at[i]
	if !p.isOld(old) {
		return nil
	}
	if len(p.places) == cap(p.places) {
		p.hurry()
	}
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	next, err := p.renewed(old)
	if next == nil || err != nil {
		<-p.places
		return err
	}
	p.mu.Lock()
	p.at[i], p.replaced = next, append(p.replaced, old)
	p.launch(ctx, group, next)
	p.mu.Unlock()
	p.env.Log.Info().Str("stage", old.def.Name).Msg("the stage begins anew with changed models, the one before finishes what it holds")
	old.leave()
	group.Go(func() error {
		<-old.done
		p.forget(old)
		<-p.places
		return nil
	})
	return nil
}

// isOld reports whether a stage is made of something else than what is there now.
func (p *process) isOld(w *working) bool {
	return w.def.MadeOf != nil && w.def.MadeOf(p.configured(p.keeper.Own())) != w.madeOf
}

// renewed is what takes the place of a stage; nil: nothing has to.
func (p *process) renewed(old *working) (*working, error) {
	if !p.isOld(old) {
		return nil, nil
	}
	env := p.configured(p.keeper.Own())
	if err := old.def.Check(env); err != nil { // before the metrics are another one's
		return nil, fmt.Errorf("begin %s anew: %w", old.def.Name, err)
	}
	env.Metrics = metric.Anew(p.registry)
	next, err := p.newWorking(old.def.Name, env)
	if err != nil {
		return nil, fmt.Errorf("begin %s anew: %w", old.def.Name, err)
	}
	return next, nil
}

// hurry lets the stage that has finished for the longest do so no longer than the grace.
func (p *process) hurry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.replaced) > 0 {
		p.replaced[0].hurry()
	}
}

// forget a stage that has left.
func (p *process) forget(old *working) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rest []*working
	for _, w := range p.replaced {
		if w != old {
			rest = append(rest, w)
		}
	}
	p.replaced = rest
}

// configured is the environment of a stage that is made with these files: their tasks and providers, and the models of
// all that is live.
func (p *process) configured(own *task.Set) *stage.Env {
	env := *p.env
	env.Tasks = &task.Set{Tasks: own.Tasks, Models: p.env.Versions.Live().Models, Providers: own.Providers}
	return &env
}

// refuses says why stages of this process could not be made with these files.
func (p *process) refuses(own *task.Set) error {
	env := *p.env
	env.Tasks = own
	for _, w := range p.working() {
		if w.def.Check == nil {
			continue
		}
		if err := w.def.Check(&env); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) working() []*working {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*working{}, p.at...)
}

// unready says why this process should not take another's place yet; "": it may.
func (p *process) unready() string {
	if p.door != nil && p.door.IsDraining() {
		return "the process is leaving"
	}
	for _, w := range p.working() {
		if why := w.runner.Unready(); why != "" {
			return why
		}
	}
	return p.keeper.Unready()
}

func (p *process) inHand() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, w := range append(append([]*working{}, p.at...), p.replaced...) {
		n += w.runner.InHand()
	}
	return n
}
