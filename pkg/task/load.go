package task

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"spillway/pkg/schema"
)

const (
	modelsFile = "models.yaml"
	tasksDir   = "tasks"
	// MaxFileBytes bounds a file of a folder of schemas.
	MaxFileBytes = 4 << 20
	// reservedName is the dead letters' token for what is no job.
	reservedName = "raw"
)

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// Load reads models.yaml and tasks/<task>/ and checks all of it. getenv resolves base_url_env; nil: nothing
// is set. The error is of type Faults and has every fault of the folder.
func Load(fsys fs.FS, getenv func(string) string) (*Set, error) {
	set, faults := Inspect(fsys, getenv)
	if len(faults) > 0 {
		return nil, faults
	}
	for _, t := range set.Tasks {
		set.stamp(t)
	}
	return set, nil
}

// Inspect returns what of a folder could be understood in spite of its faults, to be looked at and not to be run: a task
// has no version, and may lack what is at fault.
func Inspect(fsys fs.FS, getenv func(string) string) (*Set, Faults) {
	l := newLoader(fsys, getenv)
	l.models()
	l.tasks()
	l.checkSummaries()
	for _, t := range l.set.Tasks {
		l.set.lend(t)
	}
	return l.set, l.sorted()
}

type loader struct {
	*faults
	fsys   fs.FS
	getenv func(string) string
	set    *Set
	// modelsRead: models.yaml could be read, so a model that is not in the set does not exist.
	modelsRead bool
	// restoring: a provider that is not in the set is one of another process.
	restoring bool
	// summaries are the places where tasks name another one.
	summaries []summaryPlace
}

func newLoader(fsys fs.FS, getenv func(string) string) *loader {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	return &loader{
		faults: &faults{}, fsys: fsys, getenv: getenv,
		set: &Set{Tasks: map[string]*Task{}, Models: map[string]*Model{}, Providers: map[string]*Provider{}},
	}
}

type summaryPlace struct {
	file      string
	node      node
	task      string
	maxTokens int
}

func (l *loader) tasks() {
	entries, err := fs.ReadDir(l.fsys, tasksDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.file(tasksDir, "can not be read: %v", err)
		return
	}
	found := false
	for _, entry := range entries {
		dir := path.Join(tasksDir, entry.Name())
		// Stat follows links: a mounted ConfigMap is made of them.
		info, err := fs.Stat(l.fsys, dir)
		if err != nil || !info.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		found = true
		if message := BadName(entry.Name()); message != "" {
			l.file(dir, "the name of a task %s", message)
			continue
		}
		l.task(entry.Name(), dir, l.readTree(dir, ""))
	}
	if !found {
		l.file(tasksDir, "there is no task: a task is a folder tasks/<name> with task.yaml and prompt.tmpl in it")
	}
}

// BadName says what is wrong with a name of a task, model or provider: it becomes a token of subjects and a
// label of metrics. "": nothing.
func BadName(name string) string {
	switch {
	case !namePattern.MatchString(name):
		return "must match [a-z0-9-]{1,32}"
	case name == reservedName:
		return `may not be "` + reservedName + `", which is reserved`
	}
	return ""
}

// taskLoader reads one task's folder.
type taskLoader struct {
	*faults
	loader *loader
	dir    string
	task   *Task
	// model is the task's, when it exists.
	model *Model
	// cannedRung is the place of the ladder's rung canned; nil: there is none, or none is written.
	cannedRung *node
	// ladderWritten: task.yaml has a ladder of its own.
	ladderWritten bool
	// froms are the pointers into the input, statePlaces those into the state.
	froms       []fromPlace
	statePlaces []node
}

func (l *loader) task(name, dir string, files map[string][]byte) {
	before := len(l.found)
	t := &taskLoader{faults: l.faults, loader: l, dir: dir, task: defaultTask(name)}
	t.task.Files = files
	if _, ok := t.task.Files[manifestFile]; !ok {
		l.file(dir, "there is no %s in it: it needs at least `model: <a name of models.yaml>`", manifestFile)
		return
	}
	readable := t.manifest()
	t.schemas()
	t.prompt()
	t.canned()
	t.cases()
	if readable { // else nothing is known of what task.yaml wants
		t.formatCheck()
		t.ladderCheck()
		t.fromCheck()
	}
	t.checkPrompt(before)
	t.warm()
	t.strays()
	l.set.Tasks[name] = t.task
}

func (t *taskLoader) path(file string) string { return path.Join(t.dir, file) }

// readTree returns the files below dir by their path in it, without hidden ones.
func (l *loader) readTree(dir, below string) map[string][]byte {
	files := map[string][]byte{}
	entries, err := fs.ReadDir(l.fsys, path.Join(dir, below))
	if err != nil {
		l.file(path.Join(dir, below), "can not be read: %v", err)
		return files
	}
	for _, entry := range entries {
		inside := path.Join(below, entry.Name())
		full := path.Join(dir, inside)
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := fs.Stat(l.fsys, full)
		switch {
		case err != nil:
			l.file(full, "can not be read: %v", err)
		case info.IsDir():
			maps.Copy(files, l.readTree(dir, inside))
		case !info.Mode().IsRegular(): // a pipe, or a device behind a link, would be read for ever
			l.file(full, "is no regular file: put the text itself there")
		case info.Size() > MaxFileBytes:
			l.file(full, "is larger than %d MiB", MaxFileBytes>>20)
		default:
			content, err := fs.ReadFile(l.fsys, full)
			if err != nil {
				l.file(full, "can not be read: %v", err)
			}
			files[inside] = content
		}
	}
	return files
}

// strays reports files whose names are nearly those that are read.
func (t *taskLoader) strays() {
	known := []string{manifestFile, promptFile, inputFile, outputFile, stateFile, cannedFile, warmFile}
	for name := range t.task.Files {
		if slices.Contains(known, name) || strings.Contains(name, "/") {
			continue
		}
		if meant := schema.Nearest(name, known); meant != "" {
			t.file(t.path(name), "nobody reads this file: did you mean %s?", meant)
		}
	}
}

// didYouMean names the key of known that is nearest to name, as the end of a message.
func didYouMean[V any](name string, known map[string]V) string {
	names := make([]string, 0, len(known))
	for candidate := range known {
		names = append(names, candidate)
	}
	slices.Sort(names)
	if meant := schema.Nearest(name, names); meant != "" {
		return fmt.Sprintf(": did you mean %s?", meant)
	}
	if len(names) == 0 {
		return ""
	}
	return ": known are " + strings.Join(names, ", ")
}
