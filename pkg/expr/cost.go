package expr

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// How many bytes of text are counted, or copied and compared, in the time of one step.
const (
	countedPerStep = 256
	copiedPerStep  = 64
)

// costs are those of calls that read all of an operand. CEL knows them by the types in the expression, and takes a
// call on what is known at run time alone, as all JSON is, for one step: `output.text + " "` in a loop over items
// would copy gigabytes.
type costs struct{}

// CallCost implements cost.ActualCostEstimator; nil leaves the call to CEL.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	var read uint64
	switch function {
	case operators.Add:
		read = length(result) / copiedPerStep
	case overloads.Size:
		read = length(args[0]) / countedPerStep
	case operators.In:
		read = items(args[1])
	case operators.Equals, operators.NotEquals:
		read = min(parts(args[0].Value()), parts(args[1].Value()))
	}
	if read == 0 {
		return nil
	}
	read++
	return &read
}

// length is that of a text, in bytes; 0 of anything else.
func length(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	}
	return 0
}

func items(v ref.Val) uint64 {
	list, ok := v.(traits.Lister)
	if !ok {
		return 0 // of an object the key is looked up
	}
	size, _ := list.Size().(types.Int)
	return uint64(max(size, 0))
}

// parts are the steps that decoded JSON takes when all of it is compared.
func parts(value any) (n uint64) {
	switch v := value.(type) {
	case string:
		return uint64(len(v) / copiedPerStep)
	case []any:
		for _, item := range v {
			n += 1 + parts(item)
		}
	case map[string]any:
		for _, member := range v {
			n += 1 + parts(member)
		}
	}
	return n
}
