package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"

	"spillway/pkg/task"
)

// Bounds of a bundle.
const (
	maxBytes = 16 << 20
	maxFiles = 2000
	// format is the version of bundle.json.
	format   = 1
	headFile = "bundle.json"
	filesDir = "files/"
)

// Bundle is all that a version of a task is made of.
type Bundle struct {
	Task, Version string
	// Simulated: the version is that of the simulated task.
	Simulated bool
	// Models are the entries of the models that the task may call, by name: canonical JSON.
	Models map[string]json.RawMessage
	// Files are those of the task's folder, by their path in it.
	Files map[string][]byte
}

// head is bundle.json.
type head struct {
	V         int                        `json:"v"`
	Task      string                     `json:"task"`
	Version   string                     `json:"version"`
	Simulated bool                       `json:"simulated"`
	Models    map[string]json.RawMessage `json:"models"`
}

// Of is the bundle of a task as it is loaded.
func Of(t *task.Task) *Bundle {
	b := &Bundle{Task: t.Name, Version: t.Version, Simulated: t.Simulated, Models: map[string]json.RawMessage{}, Files: t.Files}
	for name, m := range t.Models {
		b.Models[name] = m.Entry()
	}
	return b
}

// Load makes the task of the bundle, with the providers of a set. What is not the version that it says is
// refused, with task.ErrUnfit.
func (b *Bundle) Load(set *task.Set) (*task.Task, error) {
	t, err := set.Restore(task.Stored{Name: b.Task, Version: b.Version, Simulated: b.Simulated, Files: b.Files, Models: b.Models})
	if err != nil {
		return nil, fmt.Errorf("version %s of task %s %w: %w", b.Version, b.Task, task.ErrUnfit, err)
	}
	return t, nil
}

// name is that of the object.
func (b *Bundle) name() string { return objectName(b.Task, b.Version) }

func objectName(name, version string) string { return name + "/" + version }

// encode writes the bundle: the same bytes for the same content.
func (b *Bundle) encode() ([]byte, error) {
	text, err := json.Marshal(head{V: format, Task: b.Task, Version: b.Version, Simulated: b.Simulated, Models: b.Models})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, content []byte) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
		}
		if err == nil {
			_, err = w.Write(content)
		}
	}
	add(headFile, text)
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		add(filesDir+name, b.Files[name])
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("pack version %s of task %s: %w", b.Version, b.Task, err)
	}
	if out.Len() > maxBytes {
		return nil, fmt.Errorf("version %s of task %s is larger than %d MiB: take files out of its folder", b.Version, b.Task, maxBytes>>20)
	}
	return out.Bytes(), nil
}

// decode reads what is stored as a version of a task, and refuses what nobody here would have written.
func decode(name, version string, data []byte) (*Bundle, error) {
	b, err := unpack(data)
	if err == nil && (b.Task != name || b.Version != version) {
		err = fmt.Errorf("it says that it is version %q of task %q", b.Version, b.Task)
	}
	if err != nil {
		return nil, fmt.Errorf("version %s of task %s %w, the bundle is refused: %w", version, name, task.ErrUnfit, err)
	}
	return b, nil
}

func unpack(data []byte) (*Bundle, error) {
	r := tar.NewReader(bytes.NewReader(data))
	b := &Bundle{Files: map[string][]byte{}}
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return b, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar file: %w", err)
		}
		content, err := member(h, r, n)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			if err := b.readHead(content); err != nil {
				return nil, err
			}
			continue
		}
		path := strings.TrimPrefix(h.Name, filesDir)
		if _, twice := b.Files[path]; twice {
			return nil, fmt.Errorf("%q is in it twice", h.Name)
		}
		b.Files[path] = content
	}
}

// member reads the n-th file of a bundle.
func member(h *tar.Header, r io.Reader, n int) ([]byte, error) {
	path, inFiles := strings.CutPrefix(h.Name, filesDir)
	switch {
	case n > maxFiles:
		return nil, fmt.Errorf("it has more than %d files", maxFiles)
	case h.Typeflag != tar.TypeReg:
		return nil, fmt.Errorf("%q is no file", h.Name)
	case n == 0 && h.Name != headFile:
		return nil, fmt.Errorf("it begins with %q, not with %s", h.Name, headFile)
	case n > 0 && (!inFiles || !isPath(path)):
		return nil, fmt.Errorf("%q is no path of a file in a task's folder", h.Name)
	case h.Size > task.MaxFileBytes && n > 0:
		return nil, fmt.Errorf("%q is larger than %d MiB", h.Name, task.MaxFileBytes>>20)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", h.Name, err)
	}
	if len(content) > maxBytes { // a sparse file is larger than what is stored of it
		return nil, fmt.Errorf("%q is larger than %d MiB", h.Name, maxBytes>>20)
	}
	return content, nil
}

// isPath reports whether a task's folder may have a file there: hidden ones are not read from it.
func isPath(path string) bool {
	hidden := func(element string) bool { return strings.HasPrefix(element, ".") }
	return fs.ValidPath(path) && !strings.Contains(path, `\`) && !slices.ContainsFunc(strings.Split(path, "/"), hidden)
}

func (b *Bundle) readHead(text []byte) error {
	var h head
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&h); err != nil {
		return fmt.Errorf("%s: %w", headFile, err)
	}
	if h.V != format {
		return fmt.Errorf("%s is of version %d, not %d: it was written by another Spillway", headFile, h.V, format)
	}
	b.Task, b.Version, b.Simulated, b.Models = h.Task, h.Version, h.Simulated, h.Models
	return nil
}

// isSame reports whether two bundles have the same content.
func (b *Bundle) isSame(other *Bundle) bool { return reflect.DeepEqual(b, other) }
