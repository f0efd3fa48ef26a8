package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"spillway/pkg/broker"
)

// configCmd shows what the flags are without a command line: their defaults and the environment's say.
type configCmd struct {
	Command []string `arg:"" optional:"" help:"Only the flags of this command, like up or dead replay."`
}

// effective is a flag's value and where it comes from.
type effective struct {
	command, flag, value, origin, env string
}

// Run prints every flag of every command.
func (c *configCmd) Run(_ context.Context, g *globals) error {
	wanted := strings.Join(c.Command, " ")
	var list []effective
	found := wanted == ""
	visit := func(n *kong.Node, name string) {
		if wanted != "" && name != wanted && !strings.HasPrefix(name, wanted+" ") && n.Type != kong.ApplicationNode {
			return
		}
		found = found || n.Type != kong.ApplicationNode
		for _, f := range n.Flags {
			if f.Name != "help" && !f.Hidden {
				list = append(list, g.effective(name, f))
			}
		}
	}
	root := g.parsed.Model.Node
	visit(root, "(all)")
	for _, leaf := range root.Leaves(true) {
		visit(leaf, leaf.Path())
	}
	if !found {
		return exit(exitUsage, "there is no command %q (`spillway --help` lists them)", wanted)
	}
	return quiet(g.showConfig(list))
}

// effective says which value a flag has. The text is the one that is parsed, so that it can be used again.
func (g *globals) effective(command string, f *kong.Flag) effective {
	e := effective{command: command, flag: "--" + f.Name, value: f.Default, origin: "default"}
	if len(f.Envs) > 0 {
		e.env = f.Envs[0]
	}
	// As kong does: a variable that is set to nothing is set.
	if text, ok := os.LookupEnv(e.env); ok && e.env != "" {
		e.value, e.origin = text, "environment "+e.env
		if why := invalid(f, text); why != "" {
			e.origin += ", NOT VALID: " + why
		}
	}
	for _, p := range g.parsed.Path {
		if p.Flag == f {
			e.value, e.origin = fmt.Sprint(f.Target.Interface()), "command line"
		}
	}
	if e.value == "" && f.IsBool() && f.Target.Kind() == reflect.Bool {
		e.value = "false"
	}
	e.value = masked(f.Name, e.value)
	return e
}

// invalid says why the flag cannot have this value; "": it can.
func invalid(f *kong.Flag, text string) string {
	scratch := reflect.New(f.Target.Type()).Elem()
	if err := f.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text}), scratch); err != nil {
		return err.Error()
	}
	if f.Enum != "" && !f.EnumMap()[text] {
		return "it is one of " + f.Enum
	}
	return ""
}

// masked hides secrets.
func masked(name, value string) string {
	for _, word := range []string{"key", "token", "password", "secret"} {
		if strings.Contains(name, word) && value != "" {
			return "(set, not shown)"
		}
	}
	if strings.Contains(value, "://") {
		return broker.RedactURLs(value)
	}
	return value
}

// providerVariables are read by the providers of models.yaml, not by flags. Their values are never shown.
func providerVariables() []string { return []string{"OPENAI_API_KEY", "OPENAI_BASE_URL"} }

func (g *globals) showConfig(list []effective) error {
	t := newTable(g.stdout, "command", "flag", "value", "from")
	last := ""
	for _, e := range list {
		if g.cli.JSON {
			if err := g.printJSON(map[string]any{"command": e.command, "flag": e.flag, "value": e.value, "from": e.origin, "env": e.env}); err != nil {
				return err
			}
			continue
		}
		shown := e.command
		if shown == last {
			shown = ""
		}
		last = e.command
		t.row(shown, e.flag, dash(e.value), e.origin)
	}
	for i, name := range providerVariables() {
		state := "not set"
		if g.getenv(name) != "" {
			state = "set, not shown"
		}
		if g.cli.JSON {
			if err := g.printJSON(map[string]any{"variable": name, "set": state != "not set"}); err != nil {
				return err
			}
			continue
		}
		shown := "(providers)"
		if i > 0 {
			shown = ""
		}
		t.row(shown, name, "("+state+")", "environment")
	}
	if g.cli.JSON {
		return nil
	}
	return t.flush()
}
