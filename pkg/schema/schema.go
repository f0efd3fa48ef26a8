// Package schema is a stub.
package schema

// Schema is a compiled JSON schema.
type Schema struct{}
