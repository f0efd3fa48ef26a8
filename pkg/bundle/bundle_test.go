package bundle_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/task"
)

func TestAVersionIsTheSameTaskInAnotherProcess(t *testing.T) {
	t.Parallel()
	_, store := setup(t)
	here := toy(t, "one")
	there := load(t, folder("two", 7, nil)) // which has other files, and another price for the same model
	for what, set := range map[string]*task.Set{"real": here, "simulated": here.Simulated()} {
		original := set.Tasks["toy"]
		if err := store.Put(t.Context(), bundle.Of(original)); err != nil {
			t.Fatal(err)
		}
		b, err := store.Get(t.Context(), "toy", original.Version)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Load(there)
		if err != nil {
			t.Fatal(err)
		}
		if got.Version != original.Version || got.ShapeHash != original.ShapeHash || !reflect.DeepEqual(got.Files, original.Files) || got.Simulated != (what == "simulated") {
			t.Errorf("%s: version %s, shape %s, not %s, %s", what, got.Version, got.ShapeHash, original.Version, original.ShapeHash)
		}
		if !reflect.DeepEqual(got.Models, original.Models) || len(got.Models) == 0 {
			t.Errorf("%s: models %v, not %v", what, got.Models, original.Models)
		}
		if system, _, _, err := got.Prompt.Render(task.PromptData{Input: map[string]any{"text": "x"}, Schema: "S"}); err != nil || system != "one S" {
			t.Errorf("%s: the prompt is %q: %v", what, system, err)
		}
	}
	if here.Tasks["toy"].Models["small"].Prices.Input != 1 || there.Models["small"].Prices.Input != 7 {
		t.Error("the sets have the same price")
	}
}

func TestASimulatingProcessKeepsTheVersionThatJobsName(t *testing.T) {
	t.Parallel()
	set := toy(t, "one")
	got := set.Simulated().Simulate(set.Tasks["toy"])
	if got.Version != set.Tasks["toy"].Version || got.Model != "simulated" || got.Ladder[0].Model != "simulated" {
		t.Errorf("version %s calls %s and %s", got.Version, got.Model, got.Ladder[0].Model)
	}
}

// An operator looks at a version with tar.
func TestABundleIsATarOfTheFolder(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	set := toy(t, "one")
	name := "toy/" + set.Tasks["toy"].Version
	var seen [2][]byte
	objects, err := conn.JS.ObjectStore(t.Context(), "llm_tasks")
	if err != nil {
		t.Fatal(err)
	}
	for i := range seen {
		if err := store.Put(t.Context(), bundleOf(toy(t, "one"))); err != nil {
			t.Fatal(err)
		}
		if seen[i], err = objects.GetBytes(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := store.Forget(t.Context(), "toy", set.Tasks["toy"].Version); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(seen[0], seen[1]) {
		t.Error("the same version is packed in two ways")
	}
	files := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(seen[0])); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
	want := []string{"bundle.json", "files/input.schema.json", "files/notes/why.txt", "files/output.schema.json", "files/prompt.tmpl", "files/task.yaml"}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("it holds %v", got)
	}
	if files["files/notes/why.txt"] != "why it is so\n" || strings.Contains(files["bundle.json"], "127.0.0.1") {
		t.Errorf("the files are others, or a provider is among them: %s", files["bundle.json"])
	}
	if _, err := store.Get(t.Context(), "toy", set.Tasks["toy"].Version); !errors.Is(err, task.ErrNoVersion) {
		t.Errorf("one that was removed: %v", err)
	}
}

type entry struct {
	name, text string
	kind       byte
}

func pack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Mode: 0o644, Size: int64(len(e.text))}
		if e.kind == tar.TypeSymlink {
			h.Linkname, h.Size, e.text = "/etc/passwd", 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAHostileBundleIsRefused(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	set := toy(t, "one")
	version := set.Tasks["toy"].Version
	head := entry{name: "bundle.json", text: fmt.Sprintf(`{"v":1,"task":"toy","version":%q,"models":{}}`, version)}
	for what, row := range map[string]struct {
		data []byte
		want string
	}{
		"no tar":             {[]byte("what?"), "no tar file"},
		"nothing":            {nil, "no tar file"},
		"no head":            {pack(t, entry{name: "files/task.yaml"}), "begins with"},
		"head twice":         {pack(t, head, head), "no path of a file"},
		"another task":       {pack(t, entry{name: "bundle.json", text: `{"v":1,"task":"other","version":"` + version + `"}`}), `task "other"`},
		"another version":    {pack(t, entry{name: "bundle.json", text: `{"v":1,"task":"toy","version":"ffffffff"}`}), `version "ffffffff"`},
		"another format":     {pack(t, entry{name: "bundle.json", text: `{"v":2,"task":"toy"}`}), "of version 2"},
		"a way out":          {pack(t, head, entry{name: "files/../../x"}), "no path"},
		"an absolute path":   {pack(t, head, entry{name: "/etc/x"}), "no path"},
		"a path of Windows'": {pack(t, head, entry{name: `files/..\x`}), "no path"},
		"a hidden file":      {pack(t, head, entry{name: "files/.git/config"}), "no path"},
		"a link":             {pack(t, head, entry{name: "files/x", kind: tar.TypeSymlink}), "no file"},
		"twice":              {pack(t, head, entry{name: "files/x"}, entry{name: "files/x"}), "twice"},
		"large":              {pack(t, head, entry{name: "files/x", text: strings.Repeat("x", 4<<20+1)}), "larger than 4 MiB"},
		"very large":         {pack(t, head, entry{name: "bundle.json", text: strings.Repeat("x", 16<<20)}), "are the most"},
		"many files":         {pack(t, append([]entry{head}, manyFiles(2001)...)...), "more than 2000"},
	} {
		if err := conn.PutObject(t.Context(), broker.TasksBucket, "toy/"+version, row.data); err != nil {
			t.Fatal(err)
		}
		if b, err := store.Get(t.Context(), "toy", version); err == nil || !strings.Contains(err.Error(), row.want) || errors.Is(err, task.ErrNoVersion) {
			t.Errorf("%s: %+v, %v", what, b, err)
		}
	}
	// Whoever has the right one puts it in its place.
	if err := store.Put(t.Context(), bundleOf(set)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), "toy", version); err != nil {
		t.Error(err)
	}
}

func manyFiles(n int) []entry {
	var all []entry
	for i := range n {
		all = append(all, entry{name: fmt.Sprintf("files/%d", i)})
	}
	return all
}

func TestABundleWhoseContentIsOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	set := toy(t, "one")
	for what, change := range map[string]func(b *bundle.Bundle){
		"a file":           func(b *bundle.Bundle) { b.Files["prompt.tmpl"] = toy(t, "two").Tasks["toy"].Files["prompt.tmpl"] },
		"a model":          func(b *bundle.Bundle) { b.Models["small"] = set.Models["other"].Entry() },
		"no model":         func(b *bundle.Bundle) { delete(b.Models, "small") },
		"a simulated task": func(b *bundle.Bundle) { b.Simulated = true },
		"faulty files":     func(b *bundle.Bundle) { b.Files["task.yaml"] = []byte("model: small\nfoo: 1\n") },
		"a model's name":   func(b *bundle.Bundle) { b.Models["../x"] = b.Models["small"] },
		"a task's name":    func(b *bundle.Bundle) { b.Task = "../x" },
	} {
		b := bundleOf(set)
		b.Files = maps.Clone(b.Files)
		change(b)
		if got, err := b.Load(set); err == nil {
			t.Errorf("%s: it loads as %s", what, got.Version)
		}
	}
	if _, err := bundleOf(set).Load(set); err != nil {
		t.Error(err)
	}
	if _, err := bundleOf(set).Load(&task.Set{}); err != nil {
		t.Errorf("a provider that is unknown here: %v", err)
	}
}
