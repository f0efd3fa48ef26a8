// Package expr is a stub.
package expr

// Program is a compiled CEL expression.
type Program struct{}
