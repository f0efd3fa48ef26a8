package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
)

// foreignPatterns are the calls of matches whose pattern is not written in the expression. Whoever chooses a pattern
// chooses how long the match takes, and a call is not ended halfway.
func foreignPatterns(checked *ast.AST) (faults []error) {
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != overloads.Matches {
			return
		}
		args := e.AsCall().Args()
		if pattern := args[len(args)-1]; pattern.Kind() != ast.LiteralKind {
			at := checked.SourceInfo().GetStartLocation(pattern.ID())
			faults = append(faults, &Error{
				Line: at.Line(), Column: at.Column() + 1,
				Message: `the pattern of matches must be a text in the expression itself, as in matches("^/[a-z]+$")`,
			})
		}
	}))
	return faults
}
