package expr

import (
	"encoding/json"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// environment is the same for all expressions, costs milliseconds to make, and never changes.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	own, replaced, err := arithmetic()
	if err != nil {
		return nil, err
	}
	shared, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(replaced...))),
		cel.FunctionDecls(own...),
		cel.CrossTypeNumericComparisons(true),
		cel.CustomTypeAdapter(adapter{}),
		cel.Variable("input", cel.DynType),
		cel.Variable("output", cel.DynType),
		cel.Variable("state", cel.DynType),
		cel.Variable("session", cel.DynType),
	)
	if err != nil {
		return nil, err
	}
	// The first unknown name makes the checker write its catalogue of names, unguarded from those who copy it:
	// it has to be written before the environment is shared.
	shared.Compile("unknown")
	return shared, nil
})

// adapter shows decoded JSON to CEL without copying it: members are converted when they are read.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case json.Number:
		return number(v)
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}
