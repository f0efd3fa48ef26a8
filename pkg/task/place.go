package task

import (
	"path"

	"spillway/pkg/schema"
)

// Path is where a file of the task's folder stands in the folder of schemas.
func (t *Task) Path(file string) string { return path.Join(tasksDir, t.Name, file) }

// Place is where a JSON pointer leads in a YAML file of the task's folder, both from 1. What is not there is where its
// nearest parent is; 0: the file can not be read.
func (t *Task) Place(file, pointer string) (line, column int) {
	n, fault := parseYAML(file, t.Files[file])
	tokens, err := schema.SplitPointer(pointer)
	if fault != nil || err != nil {
		return 0, 0
	}
	for _, token := range tokens {
		child, ok := n.child(token)
		if !ok {
			break
		}
		n = child
	}
	return n.line, n.column
}
