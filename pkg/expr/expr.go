// Package expr compiles and runs the expressions of a task: semantic rules, updates of a session's state,
// conditions of canned answers. They are CEL (https://cel.dev) over four variables: input, output, state,
// session.
//
// JSON knows one kind of number, so an expression sees every number as a double, and literals and sizes may
// be mixed with them: `output.total == output.price * 2 + size(output.items)`. Division of JSON numbers is
// never cut to an integer.
package expr

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// costLimit bounds one run, in CEL's unit of cost: about one step, a tenth of a character searched. It ends
// nested loops over hostile input within a fraction of a second.
const costLimit = 2_000_000

// ErrMissing is in the chain of an error when the expression read a key that is not there. `has(x.y)` asks.
var ErrMissing = errors.New("a key is missing")

// Error is one fault of an expression's text.
type Error struct {
	Line, Column int // from 1
	Message      string
}

// Error gives line:column and message.
func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	source  string
	program cel.Program
	output  *cel.Type
	reads   []Read
}

// Vars are what an expression sees: values as schema.Decode makes them. nil maps are empty objects.
type Vars struct {
	Input, Output  any
	State, Session map[string]any
}

// Compile checks an expression. Its error joins one *Error a fault.
func Compile(src string) (*Program, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("make the CEL environment: %w", err)
	}
	ast, issues := env.Compile(src)
	if issues != nil && len(issues.Errors()) > 0 {
		var faults []error
		for _, e := range issues.Errors() {
			faults = append(faults, &Error{Line: e.Location.Line(), Column: max(e.Location.Column(), 0) + 1, Message: e.Message})
		}
		return nil, errors.Join(faults...)
	}
	if faults := foreignPatterns(ast.NativeRep()); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostTracking(costs{}), cel.CostLimit(costLimit))
	if err != nil {
		return nil, &Error{Line: 1, Column: 1, Message: err.Error()}
	}
	return &Program{source: src, program: program, output: ast.OutputType(), reads: readsOf(ast.NativeRep())}, nil
}

// String returns the source.
func (p *Program) String() string { return p.source }

// IsBool reports whether the expression can yield a boolean: false means that Bool always fails.
func (p *Program) IsBool() bool {
	return p.output.IsExactType(cel.BoolType) || p.output.IsExactType(cel.DynType)
}

// Bool runs a condition. A result that is not a boolean is an error.
func (p *Program) Bool(vars Vars) (bool, error) {
	result, err := p.run(vars)
	if err != nil {
		return false, err
	}
	truth, ok := result.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the expression %q yields %s, not a boolean", p.source, result.Type().TypeName())
	}
	return bool(truth), nil
}

// Value runs the expression and returns its result as schema.Decode would make it.
func (p *Program) Value(vars Vars) (any, error) {
	result, err := p.run(vars)
	if err != nil {
		return nil, err
	}
	value, err := native(result)
	if err != nil {
		return nil, fmt.Errorf("the result of %q: %w", p.source, err)
	}
	return value, nil
}

func (p *Program) run(vars Vars) (result ref.Val, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			result, err = nil, fmt.Errorf("run %q: %v", p.source, cause)
		}
	}()
	result, _, err = p.program.Eval(map[string]any{
		"input": vars.Input, "output": vars.Output, "state": orEmpty(vars.State), "session": orEmpty(vars.Session),
	})
	switch {
	case err == nil:
		return result, nil
	case isMissing(err):
		return nil, fmt.Errorf("run %q: %w: %w", p.source, ErrMissing, err)
	default:
		return nil, fmt.Errorf("run %q: %w", p.source, err)
	}
}

// isMissing goes by the text: CEL has no exported error for a missing key. A test holds the text.
func isMissing(err error) bool {
	return strings.HasPrefix(err.Error(), "no such key: ")
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
