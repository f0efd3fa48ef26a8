package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// cacheShowCmd shows one cached answer.
type cacheShowCmd struct {
	natsFlags
	schemasFlag
	Key      string `arg:"" optional:"" name:"key" help:"Key of the answer; or --task and --input."`
	Task     string `env:"-" help:"Task of the input."`
	Input    string `env:"-" help:"Show what is kept for this input, in JSON." placeholder:"JSON"`
	Tenant   string `help:"Tenant of the request."`
	Session  string `env:"-" help:"Session of the request."`
	Simulate bool   `help:"The pipeline runs with --simulate: its answers have keys of their own."`
}

func (c *cacheShowCmd) check() error {
	switch {
	case c.Key != "" && (c.Task != "" || c.Input != ""):
		return exit(exitUsage, "a key excludes --task and --input")
	case c.Key != "":
		return checkKey(c.Key)
	case c.Task == "" || c.Input == "":
		return exit(exitUsage, "name a key, or an input: --task NAME --input '{…}'")
	}
	return checkToken("task", c.Task)
}

// Run prints the answer and what the task files make of it today.
func (c *cacheShowCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "cache", broker.CacheStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &showing{g: g, conn: conn, real: set, simulated: set.Simulated()}
	if c.Key != "" {
		if err = s.find(ctx, c.Key); err == nil && s.isOld() {
			s.beware = "another version of the task answered: it is found only if what shapes answers is the same as in the files here"
		}
	} else {
		err = c.findInput(ctx, s)
	}
	if err != nil {
		return err
	}
	return quiet(s.print())
}

// findInput looks under the key that the pipeline would compute, and under that of a simulated one; or the
// other way round.
func (c *cacheShowCmd) findInput(ctx context.Context, s *showing) error {
	input, err := schema.Decode([]byte(c.Input))
	if err != nil {
		return exit(exitUsage, "--input is not JSON: %w; a text needs quotes of its own: '\"…\"'", err)
	}
	t, ok := s.real.Tasks[c.Task]
	if !ok {
		return exit(exitNotFound, "there is no task %q; there are %s", c.Task, strings.Join(namesOf(s.real), ", "))
	}
	if t.Input != nil {
		for _, v := range t.Input.Validate(input) {
			s.g.note("a request with this input is rejected: %s", oneLine(v.String()))
		}
	}
	if t.Remembers(c.Session) {
		return exit(exitUsage, "an answer of a session is kept under what was remembered when it was asked, not under its input alone: `spillway cache ls --task %s` lists the keys", c.Task)
	}
	realKey, _ := t.StandIns(c.Tenant, c.Session, input)
	simulatedKey, _ := s.simulated.Tasks[c.Task].StandIns(c.Tenant, c.Session, input)
	meant, other, beware := realKey, simulatedKey, "only a simulated pipeline finds it: nothing is kept for a real one"
	if c.Simulate {
		meant, other, beware = simulatedKey, realKey, "only a real pipeline finds it: nothing is kept for a simulated one"
	}
	err = s.find(ctx, meant)
	if codeOf(err) == exitNotFound {
		if err = s.find(ctx, other); err == nil {
			s.beware = beware
		}
	}
	if codeOf(err) != exitNotFound {
		return err
	}
	whose := "without a tenant"
	if c.Tenant != "" {
		whose = "of the tenant " + c.Tenant
	}
	return exit(exitNotFound, "nothing is kept for this input %s, neither under %s nor, by a simulated pipeline, under %s: it was not answered, or before something that shapes answers changed "+
		"(prompt, model, the provider's address, parameters, schema); `spillway cache ls --task %s` lists what is kept, the files here are version %s, simulated %s",
		whose, realKey, simulatedKey, c.Task, t.Version, s.simulated.Tasks[c.Task].Version)
}

// showing is a cached answer with all that can be said of it.
type showing struct {
	g    *globals
	conn *broker.Conn
	// real and simulated are the loaded task files, as the two kinds of pipelines use them.
	real, simulated *task.Set

	entry *entry
	data  []byte
	// beware is what may keep the answer from being found; "": nothing is known.
	beware string
}

func (s *showing) find(ctx context.Context, key string) error {
	e, data, err := lastEntry(ctx, s.conn, key)
	if isNotFound(err) {
		return exit(exitNotFound, "nothing is kept under %s: it expired, was removed, made room for newer answers, or never was there (`spillway cache ls`)", key)
	}
	if err != nil {
		return err
	}
	s.entry, s.data = e, data
	return nil
}

// version says how the answer's version of the task stands to the loaded one.
func (s *showing) version() string {
	t, known := s.real.Tasks[s.entry.Task]
	switch {
	case !known:
	case s.entry.TaskVersion == t.Version:
		return t.Version + ", as the files here"
	case s.entry.TaskVersion == s.simulated.Tasks[t.Name].Version:
		return s.entry.TaskVersion + ", as the files here, simulated"
	default:
		return dash(s.entry.TaskVersion) + "; the files here are " + t.Version
	}
	return dash(s.entry.TaskVersion)
}

// isOld reports whether neither kind of pipeline, with the files here, is known to find the answer.
func (s *showing) isOld() bool {
	t, known := s.real.Tasks[s.entry.Task]
	return known && s.entry.TaskVersion != t.Version && s.entry.TaskVersion != s.simulated.Tasks[t.Name].Version
}

func (s *showing) print() error {
	e, now := s.entry, time.Now()
	t, known := s.real.Tasks[e.Task]
	verdict := serving{kind: servedUnknown, why: fmt.Sprintf("there is no task %q in the files here (--schemas)", e.Task)}
	if known {
		verdict = servingOf(t, e.At, e.expires, now)
	}
	if s.g.cli.JSON {
		return s.printJSON(verdict)
	}
	out := newTable(s.g.stdout)
	out.row("key", e.key)
	out.row("task", dash(e.Task))
	out.row("version", s.version())
	out.row("tenant", dash(e.Tenant))
	out.row("answered", fmt.Sprintf("%s ago (%s) by %s, for the request %s", span(now.Sub(e.At)), e.At.Local().Format(time.DateTime), by(e), dash(e.ID)))
	if e.expires.IsZero() {
		out.row("expires", "never")
	} else {
		out.row("expires", fmt.Sprintf("in %s (%s)", span(e.expires.Sub(now)), e.expires.Local().Format(time.DateTime)))
	}
	out.row("served", verdict.text(now))
	if s.beware != "" {
		out.row("beware", s.beware)
	}
	if err := out.flush(); err != nil {
		return err
	}
	var answer job.CachedAnswer
	head, body := "output", ""
	if json.Unmarshal(s.data, &answer) == nil && len(answer.Output) > 0 {
		body = pretty(answer.Output)
	} else {
		head, body = "not a cached answer", harmless(job.Cut(string(s.data), 4<<10))
	}
	_, err := fmt.Fprintf(s.g.stdout, "%s\n%s\n", head, indent(body))
	return err
}

// by names the model, and what its provider calls it.
func by(e *entry) string {
	if e.AnsweredBy != "" && e.AnsweredBy != e.Model {
		return e.model() + " (" + e.AnsweredBy + ")"
	}
	return e.model()
}

func (s *showing) printJSON(verdict serving) error {
	row := s.entry.row()
	row["served"], row["why"], row["beware"] = verdict.kind, verdict.why, s.beware
	for name, until := range map[string]time.Time{"served_until": verdict.fresh, "stands_in_until": verdict.standIn} {
		if row[name] = nil; !until.IsZero() {
			row[name] = until.UTC()
		}
	}
	if json.Valid(s.data) {
		row["entry"] = json.RawMessage(s.data)
	} else {
		row["entry"] = string(s.data)
	}
	return s.g.printJSON(row)
}
