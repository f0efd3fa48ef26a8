// Package schemas holds the tasks and models that ship with Spillway, the schemas of its messages, and the documents of what
// is said over HTTP and NATS.
package schemas

import (
	"embed"
	"io/fs"
)

//go:embed models.yaml *.schema.json messages/*.schema.json tasks
var files embed.FS

// FS returns the folder as --schemas would name one on disk.
func FS() fs.FS { return files }
