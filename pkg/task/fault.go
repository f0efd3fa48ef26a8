package task

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong in a folder of schemas.
type Fault struct {
	// File is the path within the folder; "" when the folder as a whole is meant.
	File string
	// Line and Column count from 1; 0: not known.
	Line, Column int
	// Pointer leads to the place in a JSON file.
	Pointer string
	Message string
}

// String gives file:line:column: message, or file#pointer: message.
func (f Fault) String() string {
	var where strings.Builder
	where.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&where, ":%d", f.Line)
		if f.Column > 0 {
			fmt.Fprintf(&where, ":%d", f.Column)
		}
	}
	if f.Pointer != "" {
		where.WriteString("#" + f.Pointer)
	}
	if where.Len() == 0 {
		return f.Message
	}
	return where.String() + ": " + f.Message
}

// Faults are all faults of a folder, ordered by place.
type Faults []Fault //nolint:errname // a plural of what it holds says more than FaultsError

// Error gives one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// faults collects while a folder is read, so that all are reported at once.
type faults struct{ found Faults }

func (f *faults) add(fault Fault) { f.found = append(f.found, fault) }

// at adds a fault at a node of a YAML file.
func (f *faults) at(file string, n node, format string, args ...any) {
	f.add(Fault{File: file, Line: n.line, Column: n.column, Message: fmt.Sprintf(format, args...)})
}

// file adds a fault of a file as a whole.
func (f *faults) file(file, format string, args ...any) {
	f.add(Fault{File: file, Message: fmt.Sprintf(format, args...)})
}

// sorted returns the collected faults, ordered and without repetitions.
func (f *faults) sorted() Faults {
	slices.SortStableFunc(f.found, Fault.Compare)
	return slices.Compact(f.found)
}

// Compare orders faults by place.
func (f Fault) Compare(other Fault) int {
	return cmp.Or(cmp.Compare(f.File, other.File), cmp.Compare(f.Line, other.Line), cmp.Compare(f.Column, other.Column),
		cmp.Compare(f.Pointer, other.Pointer), cmp.Compare(f.Message, other.Message))
}

// position turns an offset in bytes into line and column, both from 1.
func position(text []byte, offset int) (line, column int) {
	before := string(text[:min(max(offset, 0), len(text))])
	line = strings.Count(before, "\n") + 1
	return line, offset - strings.LastIndexByte(before, '\n')
}
