package expr

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Read is a part of the variables that an expression reads.
type Read struct {
	// Variable is input, output, state or session; Path the names from there on, as far as they are written. What is
	// read of an item of a list is not known.
	Variable string
	Path     []string
	// Against are the texts that the part is compared with.
	Against []string
}

// Reads returns what the expression reads, in its order.
func (p *Program) Reads() []Read { return p.reads }

// readsOf finds the longest chains of names that begin with a variable.
func readsOf(checked *ast.AST) (reads []Read) {
	inner, against := map[int64]bool{}, map[int64][]string{}
	var chains []ast.Expr
	ast.PreOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if operand, _, ok := step(e); ok {
			inner[operand.ID()] = true
		}
		if e.Kind() == ast.CallKind {
			compared(e.AsCall(), against)
		}
		if _, _, ok := chain(e); ok && !inner[e.ID()] {
			chains = append(chains, e)
		}
	}))
	for _, e := range chains {
		variable, path, _ := chain(e)
		reads = append(reads, Read{Variable: variable, Path: path, Against: against[e.ID()]})
	}
	return reads
}

// chain is the variable that a chain of names begins with, and the names.
func chain(e ast.Expr) (variable string, path []string, ok bool) {
	if e.Kind() == ast.IdentKind {
		name := e.AsIdent()
		return name, nil, slices.Contains([]string{"input", "output", "state", "session"}, name)
	}
	operand, name, ok := step(e)
	if !ok {
		return "", nil, false
	}
	variable, path, ok = chain(operand)
	return variable, append(path, name), ok
}

// step is a name of a member, written as x.name or x["name"], and what it is a member of.
func step(e ast.Expr) (operand ast.Expr, name string, ok bool) {
	switch e.Kind() {
	case ast.SelectKind:
		return e.AsSelect().Operand(), e.AsSelect().FieldName(), true
	case ast.CallKind:
		if args := e.AsCall().Args(); e.AsCall().FunctionName() == operators.Index && len(args) == 2 {
			name, ok = textOf(args[1])
			return args[0], name, ok
		}
	}
	return nil, "", false
}

// compared notes which texts a part is held against, by ==, != and in.
func compared(call ast.CallExpr, against map[int64][]string) {
	args := call.Args()
	if len(args) != 2 {
		return
	}
	note := func(part, with ast.Expr) {
		if text, ok := textOf(with); ok {
			against[part.ID()] = append(against[part.ID()], text)
		}
	}
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals:
		note(args[0], args[1])
		note(args[1], args[0])
	case operators.In:
		if args[1].Kind() == ast.ListKind {
			for _, element := range args[1].AsList().Elements() {
				note(args[0], element)
			}
		}
	}
}

func textOf(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}
