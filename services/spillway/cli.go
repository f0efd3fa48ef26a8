package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/services"
)

// cli is the command line. Every flag that configures has an environment variable, SPILLWAY_ and its name;
// those that pick one thing or confirm an act have none.
type cli struct {
	JSON      bool   `help:"Print JSON, one object a line."`
	LogLevel  string `help:"What is logged: trace, debug, info, warn, error." default:"info" enum:"trace,debug,info,warn,error"`
	LogFormat string `help:"How it is logged: console, json, or auto (console on a terminal)." default:"auto" enum:"auto,console,json"`

	Up upCmd `cmd:"" help:"Run the whole pipeline here, with its own NATS server or a shared one."`

	Submit  submitCmd  `cmd:"" group:"Requests" help:"Publish a request, or JSON lines from standard input, and wait for the results."`
	Result  resultCmd  `cmd:"" group:"Requests" help:"Print the result of an id."`
	Watch   watchCmd   `cmd:"" group:"Requests" help:"Follow results and progress as they happen."`
	Cancel  cancelCmd  `cmd:"" group:"Requests" help:"Cancel a request."`
	Dead    deadCmd    `cmd:"" group:"Operation" help:"List, show, replay and remove dead letters."`
	Cache   cacheCmd   `cmd:"" group:"Operation" help:"List, show and remove cached answers."`
	Session sessionCmd `cmd:"" group:"Operation" help:"List and show what is remembered of sessions, correct their state, forget them."`
	Context contextCmd `cmd:"" group:"Operation" help:"Show what a model saw of a request, and what was left out."`
	Breaker breakerCmd `cmd:"" group:"Operation" help:"List the circuit breakers of models, open and close them by hand."`
	Key     keyCmd     `cmd:"" group:"Operation" help:"Make, list and revoke the API keys of the HTTP doors."`
	Task    taskCmd    `cmd:"" group:"Operation" help:"List, show, check and change tasks; fill the cache with answers before somebody asks."`
	Models  modelsCmd  `cmd:"" group:"Operation" help:"Check the models: keys, prices, and, live, what each says of itself."`
	Broker  brokerCmd  `cmd:"" group:"Operation" help:"Create or check the streams on a NATS server."`
	Ready   readyCmd   `cmd:"" group:"Operation" help:"Ask the process that serves --http on this machine whether it does its work: for health checks of containers."`
	Config  configCmd  `cmd:"" group:"Operation" help:"Show every flag's effective value and where it comes from."`
	Fakellm fakellmCmd `cmd:"" group:"Trying out" help:"Run the simulated provider as an OpenAI-compatible server."`
	Drill   drillCmd   `cmd:"" group:"Trying out" help:"Rehearse an outage of the provider, and see what becomes of every request."`
	Bench   benchCmd   `cmd:"" group:"Trying out" help:"Measure a pipeline beside a bare JetStream relay."`
}

func newCLI() *cli { return &cli{} }

// stageCommands gives each stage of the pipeline a command of its name.
func stageCommands() []kong.Option {
	var options []kong.Option
	for _, d := range services.Pipeline() {
		var command any = &roleCmd{stage: d.Name}
		if d.Name == broker.Ingest {
			command = &ingestCmd{roleCmd: roleCmd{stage: d.Name}}
		}
		options = append(options, kong.DynamicCommand(d.Name, "Run the "+d.Name+" stage alone, against a shared NATS server.", "Stages, one a process", command))
	}
	return options
}

// globals is what every command gets.
type globals struct {
	cli    *cli
	parsed *kong.Context
	getenv func(string) string
	stdout io.Writer
	stderr io.Writer
}

// printJSON writes v as one line.
func (g *globals) printJSON(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	_, err = fmt.Fprintf(g.stdout, "%s\n", line)
	return err
}

func (g *globals) printf(format string, args ...any) { fmt.Fprintf(g.stdout, format, args...) }

// isTerminal reports whether a stream is a person's screen: progress is shown there, and only there.
func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(f.Fd())
}

// logger writes to standard error.
func (g *globals) logger() zerolog.Logger {
	level, err := zerolog.ParseLevel(g.cli.LogLevel)
	if err != nil {
		level = zerolog.InfoLevel
	}
	out := g.stderr
	if g.cli.LogFormat == "console" || g.cli.LogFormat == "auto" && isTerminal(g.stderr) {
		out = zerolog.ConsoleWriter{Out: g.stderr, TimeFormat: time.TimeOnly, NoColor: !isTerminal(g.stderr)}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger()
}

// natsFlags say which server a command talks to.
type natsFlags struct {
	NATS string `name:"nats" help:"NATS server, or several separated by commas." default:"nats://127.0.0.1:4222" placeholder:"URL"`
	identityFlags
}

// connect is for tools: it fails at once when no server answers.
func (f natsFlags) connect(g *globals, name string) (*broker.Conn, error) {
	return broker.Connect(broker.ConnectOptions{URL: f.NATS, As: f.credentials(), Name: "spillway/" + name, Log: g.logger()})
}
