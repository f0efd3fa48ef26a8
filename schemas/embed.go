// Package schemas holds the tasks and models that ship with Spillway, and the schemas of its messages.
package schemas

import (
	"embed"
	"io/fs"
)

//go:embed models.yaml *.schema.json messages/*.schema.json tasks
var files embed.FS

// FS returns the folder as --schemas would name one on disk.
func FS() fs.FS { return files }
