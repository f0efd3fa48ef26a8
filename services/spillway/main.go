// Command spillway is the whole system: a pipeline in one process, one stage a process, and the tools.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes. They are part of the command line's contract.
const (
	exitOK          = 0
	exitFailed      = 1   // the command could not do its work
	exitUsage       = 2   // the command line is wrong
	exitNotFound    = 3   // nothing is known of what was asked for, or not yet
	exitNotAnswered = 4   // a run ended without an output: rejected, failed or cancelled
	exitInterrupted = 130 // Ctrl-C before the work was done
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := interruptible()
	go thrift(ctx, os.Getenv) // it ends with the process at the latest
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interruptible ends the context at the first SIGINT or SIGTERM; the second one ends the process.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

// run is the program, with all that it takes from its surroundings.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	c := newCLI()
	parser, err := newParser(c, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "spillway:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parse(parser, args)
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if err != nil {
		fmt.Fprintf(stderr, "spillway: %s (`spillway --help` lists the commands)\n", err)
		return exitUsage
	}
	g := &globals{cli: c, parsed: command, getenv: getenv, stdout: stdout, stderr: stderr}
	command.BindTo(ctx, (*context.Context)(nil))
	return g.report(ctx, command.Run(g))
}

// report prints what a command failed of and returns the exit code.
func (g *globals) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
	} else if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if g.cli.JSON {
		line, _ := json.Marshal(map[string]any{"error": err.Error(), "exit_code": code}) // strings and a number
		fmt.Fprintf(g.stderr, "%s\n", line)
		return code
	}
	fmt.Fprintln(g.stderr, "spillway:", err)
	return code
}

// exitCode is how kong's wish to exit (after --help) leaves its parser.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// parse turns kong's wish to exit, which comes as a panic, into an error.
func parse(parser *kong.Kong, args []string) (command *kong.Context, err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case exitCode:
			err = v
		default:
			panic(v)
		}
	}()
	return parser.Parse(args)
}

func newParser(c *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	options := []kong.Option{
		kong.Name("spillway"),
		kong.Description("Makes LLM calls safe: publish a request, get one checked result."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.DefaultEnvars("SPILLWAY"),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
	}
	return kong.New(c, append(options, stageCommands()...)...)
}
