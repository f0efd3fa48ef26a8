package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/metric"
	"spillway/pkg/task"
	"spillway/pkg/watch"
)

// taskFiles are the files that this process began with. Their versions are stored for all to fetch, and the folder is
// read again when it changes: a faulty save changes nothing.
type taskFiles struct {
	p     *process
	store *bundle.Store
	// dir is "" for the files that are built in.
	dir      string
	simulate bool
	// pushes: this process says what the files are; ownServer: and what they are not.
	pushes, ownServer bool
	by                string
	tell              func(filesEvent)
	faults            prometheus.Gauge
	reloads           *prometheus.CounterVec

	mu   sync.Mutex
	owed map[string]bundle.Push // that the broker did not take yet, by task
}

// The events of task files.
const (
	filesLive    = "live"    // a version of the files is live
	filesLeft    = "left"    // another version stays live
	filesOut     = "out"     // a task was taken out
	filesGone    = "gone"    // a task is in no file any more and stays live
	filesFaulty  = "faulty"  // the files have faults, nothing was changed
	filesRefused = "refused" // this process can not work with them, nothing was changed
	filesMended  = "mended"  // they have no faults any more
)

// filesEvent is what became of the files, or of one task of them.
type filesEvent struct {
	Event   string         `json:"event"`
	Task    string         `json:"task,omitempty"`
	Version string         `json:"version,omitempty"`
	How     string         `json:"how,omitempty"`
	Record  *bundle.Record `json:"live,omitempty"`
	Faults  []string       `json:"faults,omitempty"`
}

func newTaskFiles(p *process, f roleFlags, names []string) (*taskFiles, error) {
	files := &taskFiles{
		p: p, store: bundle.NewStore(p.env.Conn), dir: f.Schemas, simulate: f.Simulate, tell: f.tell,
		// Each process has the files, and one kind of them has to say so. It takes requests, so nothing is admitted under a
		// version that it could not store.
		pushes: slices.Contains(names, broker.Ingest), ownServer: f.ownServer, by: processName(names), owed: map[string]bundle.Push{},
		faults: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "spillway", Name: "task_files_faults", Help: "Faults of the task files as they are saved now; the process works with those before. Not zero: see the log.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "task_files_saves_total", Help: "Saves of the task files that this process saw, by what became of them: taken, faulty, refused.",
		}, []string{"outcome"}),
	}
	if files.tell == nil {
		files.tell = files.note
	}
	return files, errors.Join(metric.Register(p.registry, &files.faults), metric.Register(p.registry, &files.reloads))
}

// processName tells a person which process it is.
func processName(names []string) string {
	what := "up"
	if len(names) == 1 {
		what = names[0]
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host"
	}
	return fmt.Sprintf("%s on %s, pid %d", what, host, os.Getpid())
}

const (
	// pushTimeout bounds the storing of one version; pushAgain is when one is tried again that failed.
	pushTimeout = 10 * time.Second
	pushAgain   = 5 * time.Second
)

// begin stores the versions of the files, and reports whether something may have changed by that.
func (f *taskFiles) begin(ctx context.Context) bool {
	if !f.pushes {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	own := f.p.keeper.Own()
	for _, name := range slices.Sorted(maps.Keys(own.Tasks)) {
		f.push(ctx, bundle.Push{Bundle: bundle.Of(own.Tasks[name]), By: f.by, How: bundle.HowStart, OnlyNew: true, Own: f.ownServer})
	}
	if f.ownServer {
		f.takeOut(ctx, own)
	}
	return true
}

// push needs f.mu.
func (f *taskFiles) push(ctx context.Context, p bundle.Push) {
	own, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	before := f.p.keeper.Record(p.Bundle.Task)
	rec, live, err := f.store.Push(own, p)
	delete(f.owed, p.Bundle.Task)
	switch {
	case err != nil:
		f.owed[p.Bundle.Task] = p
		if ctx.Err() == nil {
			f.p.env.Log.Warn().Err(err).Str("task", p.Bundle.Task).Str("version", p.Bundle.Version).Msg("a version of a task is not stored, repeating")
		}
	case !live:
		f.tell(filesEvent{Event: filesLeft, Task: rec.Task, Version: p.Bundle.Version, How: p.How, Record: rec})
	case p.How == bundle.HowSave || before != nil && before.Live != rec.Live:
		f.tell(filesEvent{Event: filesLive, Task: rec.Task, Version: p.Bundle.Version, How: p.How, Record: rec})
	}
}

// takeOut takes out the tasks that are live and not in the files.
func (f *taskFiles) takeOut(ctx context.Context, own *task.Set) {
	records, err := f.store.Records(ctx)
	if err != nil {
		f.p.env.Log.Warn().Err(err).Msg("tasks that are in no file any more are not looked for")
	}
	for _, r := range records {
		if own.Tasks[r.Task] != nil || r.Live == "" {
			continue
		}
		if err := f.store.Remove(ctx, r.Task, f.by); err != nil {
			f.p.env.Log.Warn().Err(err).Str("task", r.Task).Msg("a task that is in no file any more is not taken out")
			continue
		}
		f.tell(filesEvent{Event: filesOut, Task: r.Task})
	}
}

// run reads the files again when they change, until ctx ends.
func (f *taskFiles) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	if f.dir != "" {
		all.Go(func() {
			told := false
			watch.Folder(ctx, os.DirFS(f.dir), watch.Every, func(state string) bool {
				taken := f.reload(ctx, state, told)
				told = told || taken
				return taken
			})
		})
	}
	again := time.NewTicker(pushAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			f.pay(ctx)
		}
	}
}

// pay stores what is owed.
func (f *taskFiles) pay(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.owed)) {
		f.push(ctx, f.owed[name])
	}
}

// reload takes the files as they are saved. It returns false when they changed while they were read. isSave is false for
// the look at the files that the process began with.
func (f *taskFiles) reload(ctx context.Context, state string, isSave bool) bool {
	folder := os.DirFS(f.dir)
	set, err := task.Load(folder, f.p.env.Getenv)
	if watch.State(folder) != state {
		return false
	}
	if err != nil {
		f.refuse(filesFaulty, err)
		return true
	}
	if f.simulate {
		set = set.Simulated()
	}
	if err := f.p.refuses(set); err != nil {
		f.refuse(filesRefused, err)
		return true
	}
	f.faults.Set(0)
	own := f.p.keeper.Own()
	if isSameSet(own, set) {
		if isSave {
			f.tell(filesEvent{Event: filesMended})
		}
		return true
	}
	f.reloads.WithLabelValues("taken").Inc()
	f.take(ctx, own, set)
	return true
}

// refuse tells every fault, once a save.
func (f *taskFiles) refuse(event string, err error) {
	faults := strings.Split(err.Error(), "\n")
	f.faults.Set(float64(len(faults)))
	f.reloads.WithLabelValues(event).Inc()
	f.tell(filesEvent{Event: event, Faults: faults})
}

// isSameSet reports whether two sets are of the same content.
func isSameSet(a, b *task.Set) bool {
	versions := func(s *task.Set) map[string]string {
		all := map[string]string{}
		for name, t := range s.Tasks {
			all[name] = t.Version
		}
		return all
	}
	return maps.Equal(versions(a), versions(b)) && reflect.DeepEqual(a.Models, b.Models) && reflect.DeepEqual(a.Providers, b.Providers)
}

// take makes a save live: bundles first, so that whoever hears of a version can fetch it.
func (f *taskFiles) take(ctx context.Context, before, set *task.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var changed []bundle.Push
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(set.Tasks)) {
		p := bundle.Push{Bundle: bundle.Of(set.Tasks[name]), Seen: now, By: f.by, How: bundle.HowSave}
		if was := before.Tasks[name]; was != nil {
			p.Replaces = was.Version
		}
		if p.Replaces != p.Bundle.Version {
			changed = append(changed, p)
		}
	}
	if f.pushes {
		for _, p := range changed {
			own, cancel := context.WithTimeout(ctx, pushTimeout)
			_ = f.store.Put(own, p.Bundle) // which push does again, and tells of
			cancel()
		}
	}
	if err := f.p.keeper.SetOwn(ctx, set); err != nil && ctx.Err() == nil {
		f.p.env.Log.Warn().Err(err).Msg("not all live versions are loaded")
	}
	if !f.pushes {
		return
	}
	for _, p := range changed {
		f.push(ctx, p)
	}
	if f.ownServer {
		f.takeOut(ctx, set)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(before.Tasks)) {
		if set.Tasks[name] == nil {
			f.tell(filesEvent{Event: filesGone, Task: name})
		}
	}
}

// note tells the log.
func (f *taskFiles) note(e filesEvent) {
	log := f.p.env.Log.With().Str("task", e.Task).Str("version", e.Version).Logger()
	switch e.Event {
	case filesLive:
		log.Info().Str("how", e.How).Msg("a version of the task files is live")
	case filesLeft:
		log.Warn().Str("live", e.Record.Live).Time("since", e.Record.Since).Str("by", e.Record.By).
			Msg("another version of the task than that of the files is live: `spillway task push` makes this one live")
	case filesOut:
		log.Info().Msg("the task is in no file any more and is taken out")
	case filesGone:
		log.Warn().Msg("the task is in no file any more and stays live: `spillway task rm` takes it out")
	case filesMended:
		f.p.env.Log.Info().Msg("the task files are again as this process works with them")
	default:
		f.p.env.Log.Error().Strs("faults", e.Faults).Msg("the task files were saved with faults, everything stays as it was")
	}
}
