package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"spillway/pkg/lint"
	"spillway/pkg/task"
)

// taskCheckCmd checks a folder.
type taskCheckCmd struct {
	schemasFlag
	Names  []string `arg:"" optional:"" name:"name" help:"Only these tasks; default: all."`
	Strict bool     `env:"-" help:"Take warnings for faults."`
}

// Run prints every fault of the folder and of its cases, and all that has drifted apart.
func (c *taskCheckCmd) Run(ctx context.Context, g *globals) error {
	folder, err := folderOf(c.Schemas)
	if err != nil {
		return err
	}
	set, faults := task.Inspect(folder, g.getenv)
	if err := c.check(set, faults); err != nil {
		return err
	}
	findings := make([]lint.Finding, 0, len(faults))
	for _, f := range faults {
		findings = append(findings, lint.Finding{Fault: f, Severity: lint.Fault})
	}
	cases := 0
	for _, name := range c.names(set) {
		if err := ctx.Err(); err != nil {
			return err
		}
		t := set.Tasks[name]
		cases += len(t.Cases)
		findings = append(findings, unsaid(lint.Task(t), faults)...)
		if !slices.ContainsFunc(faults, func(f task.Fault) bool { return isFaultOf(f, name) }) {
			findings = append(findings, tryCases(ctx, t)...)
		}
	}
	return quiet(c.report(g, c.severe(findings), len(c.names(set)), cases))
}

// check refuses names of no task.
func (c *taskCheckCmd) check(set *task.Set, faults task.Faults) error {
	for _, name := range c.Names {
		isFaulty := slices.ContainsFunc(faults, func(f task.Fault) bool { return isFaultOf(f, name) })
		if set.Tasks[name] == nil && !isFaulty {
			return exit(exitNotFound, "there is no task %q; there are %s", name, strings.Join(namesOf(set), ", "))
		}
	}
	return nil
}

// names are those of the tasks that are looked at.
func (c *taskCheckCmd) names(set *task.Set) []string {
	return slices.DeleteFunc(namesOf(set), func(name string) bool { return !c.isMeant(name) })
}

func (c *taskCheckCmd) isMeant(name string) bool {
	return len(c.Names) == 0 || slices.Contains(c.Names, name)
}

// isFaultOf reports whether a fault is of a task's folder.
func isFaultOf(f task.Fault, name string) bool {
	folder := (&task.Task{Name: name}).Path("")
	return f.File == folder || strings.HasPrefix(f.File, folder+"/")
}

// unsaid leaves out what is said of a line of a prompt whose fault is known already.
func unsaid(findings []lint.Finding, faults task.Faults) []lint.Finding {
	return slices.DeleteFunc(findings, func(f lint.Finding) bool {
		return slices.ContainsFunc(faults, func(known task.Fault) bool {
			return f.Line > 0 && known.File == f.File && known.Line == f.Line && strings.HasSuffix(f.File, ".tmpl")
		})
	})
}

// severe orders the findings, of the tasks that are meant and of no task, and takes warnings for what they are to be.
func (c *taskCheckCmd) severe(findings []lint.Finding) []lint.Finding {
	kept := findings[:0]
	for _, f := range findings {
		name, isTasks := strings.CutPrefix(f.File, "tasks/")
		name, _, _ = strings.Cut(name, "/")
		if isTasks && !c.isMeant(name) {
			continue
		}
		if c.Strict && f.Severity == lint.Warning {
			f.Severity = lint.Fault
		}
		kept = append(kept, f)
	}
	return lint.Sort(kept)
}

// report prints the findings, and fails when one is a fault.
func (c *taskCheckCmd) report(g *globals, findings []lint.Finding, tasks, cases int) error {
	number := map[lint.Severity]int{}
	for _, f := range findings {
		number[f.Severity]++
		if g.cli.JSON {
			row := map[string]any{
				"severity": f.Severity, "file": f.File, "line": f.Line, "column": f.Column, "pointer": f.Pointer, "message": f.Message,
			}
			if err := g.printJSON(row); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(g.stdout, harmless(f.String())); err != nil {
			return err
		}
	}
	warnings := ""
	if n := number[lint.Warning]; n > 0 {
		warnings = ", " + count(n, "warning")
	}
	if n := number[lint.Fault]; n > 0 {
		return exit(exitFailed, "%s in the task files%s", count(n, "fault"), warnings)
	}
	if g.cli.JSON {
		return g.printJSON(map[string]int{"tasks": tasks, "cases": cases, "faults": 0, "warnings": number[lint.Warning], "notes": number[lint.Note]})
	}
	_, err := fmt.Fprintf(g.stdout, "%s, %s, no faults%s\n", count(tasks, "task"), count(cases, "case"), warnings)
	return err
}
