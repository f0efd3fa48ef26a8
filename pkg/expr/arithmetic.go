package expr

import (
	"fmt"

	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/stdlib"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// operations are the operators of CEL that here also take an integer and a double. CEL itself refuses
// `output.count + 1` when count is a double, which every JSON number is.
func operations() map[string]functions.BinaryOp {
	return map[string]functions.BinaryOp{
		operators.Add:      mixed(func(a, b ref.Val) ref.Val { return a.(traits.Adder).Add(b) }),
		operators.Subtract: mixed(func(a, b ref.Val) ref.Val { return a.(traits.Subtractor).Subtract(b) }),
		operators.Multiply: mixed(func(a, b ref.Val) ref.Val { return a.(traits.Multiplier).Multiply(b) }),
		operators.Divide:   mixed(func(a, b ref.Val) ref.Val { return a.(traits.Divider).Divide(b) }),
		operators.Modulo:   modulo,
	}
}

// traitOf is what the left operand must be able to do, so that the type assertions above hold. Modulo
// checks by itself, as it also takes doubles.
func traitOf(operator string) int {
	switch operator {
	case operators.Add:
		return traits.AdderType
	case operators.Subtract:
		return traits.SubtractorType
	case operators.Multiply:
		return traits.MultiplierType
	default:
		return traits.DividerType
	}
}

func mixed(apply functions.BinaryOp) functions.BinaryOp {
	return func(a, b ref.Val) ref.Val {
		a, b = alike(a, b)
		return apply(a, b)
	}
}

func modulo(a, b ref.Val) ref.Val {
	a, b = toInt(a), toInt(b)
	dividend, ok := a.(traits.Modder)
	if !ok {
		return types.MaybeNoSuchOverloadErr(a)
	}
	return dividend.Modulo(b)
}

// arithmetic returns CEL's own declarations of the operators, extended and bound to operations, and the
// functions of the standard library that they replace.
func arithmetic() (own []*decls.FunctionDecl, replaced []*env.Function, err error) {
	bindings := operations()
	for _, standard := range stdlib.Functions() {
		bind, ok := bindings[standard.Name()]
		if !ok {
			continue
		}
		var options []decls.FunctionOpt
		for _, o := range standard.OverloadDecls() {
			options = append(options, decls.Overload(o.ID(), o.ArgTypes(), o.ResultType()))
		}
		options = append(options,
			decls.Overload(standard.Name()+"_int_double", []*types.Type{types.IntType, types.DoubleType}, types.DoubleType),
			decls.Overload(standard.Name()+"_double_int", []*types.Type{types.DoubleType, types.IntType}, types.DoubleType))
		if standard.Name() == operators.Modulo {
			options = append(options, decls.SingletonBinaryBinding(bind))
		} else {
			options = append(options, decls.SingletonBinaryBinding(bind, traitOf(standard.Name())))
		}
		declaration, err := decls.NewFunction(standard.Name(), options...)
		if err != nil {
			return nil, nil, fmt.Errorf("declare %s: %w", standard.Name(), err)
		}
		own = append(own, declaration)
		replaced = append(replaced, env.NewFunction(standard.Name()))
	}
	return own, replaced, nil
}
