package watch_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const every = 10 * time.Millisecond

// seen are the texts of a file as they were when a change was told.
type seen struct {
	mu    sync.Mutex
	texts []string
	// again: it wants to see each state twice.
	again bool
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.texts...)
}

func (s *seen) last() string {
	if all := s.all(); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

func follow(t *testing.T, dir, file string, again bool) *seen {
	t.Helper()
	s := &seen{again: again}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		watch.Folder(ctx, os.DirFS(dir), every, func(string) bool {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				text = []byte("none")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.texts = append(s.texts, string(text))
			return !s.again || len(s.texts)%2 == 0
		})
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	return s
}

func (s *seen) awaits(t *testing.T, text string) {
	t.Helper()
	brokertest.Eventually(t, 10*time.Second, "it is told of "+text, func() bool { return s.last() == text })
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEachSaveIsToldOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tasks/toy/prompt"), "one")
	s := follow(t, dir, "tasks/toy/prompt", false)
	s.awaits(t, "one")
	write(t, filepath.Join(dir, "tasks/toy/prompt"), "two") // of the same size
	s.awaits(t, "two")
	if err := os.RemoveAll(filepath.Join(dir, "tasks")); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "none")
	write(t, filepath.Join(dir, ".hidden"), "nobody's")
	write(t, filepath.Join(dir, "tasks/toy/prompt"), "three")
	s.awaits(t, "three")
	if all := s.all(); len(all) != 4 {
		t.Errorf("told of %q", all)
	}
}

// A ConfigMap is mounted as links into a hidden folder, which is swapped as a whole.
func TestASwapOfWhatLinksLeadToIsASave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..1/tasks/toy/prompt"), "one")
	write(t, filepath.Join(dir, "..2/tasks/toy/prompt"), "two")
	for link, to := range map[string]string{"..data": "..1", "tasks": "..data/tasks"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := follow(t, dir, "tasks/toy/prompt", false)
	s.awaits(t, "one")
	if err := os.Symlink("..2", filepath.Join(dir, "..next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "two")
}

func TestAStateThatIsWantedAgainIsToldAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "one")
	s := follow(t, dir, "file", true)
	brokertest.Eventually(t, 10*time.Second, "it is told twice", func() bool { return len(s.all()) == 2 })
	write(t, filepath.Join(dir, "file"), "another")
	brokertest.Eventually(t, 10*time.Second, "so is the next", func() bool { return len(s.all()) == 4 && s.last() == "another" })
}

func TestAFolderThatLeadsBackIntoItselfComesToAnEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(".", filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	before := watch.State(os.DirFS(dir))
	write(t, filepath.Join(dir, "file"), "one")
	if watch.State(os.DirFS(dir)) == before {
		t.Error("a new file is not seen")
	}
}

// growing is a folder whose only file grows with every look, so many times.
type growing struct {
	looks, until int
}

func (g *growing) Open(string) (fs.File, error) {
	g.looks++
	return fstest.MapFS{"file": {Data: make([]byte, min(g.looks, g.until))}}.Open(".")
}

func (g *growing) Stat(name string) (fs.FileInfo, error) {
	return fstest.MapFS{"file": {Data: make([]byte, min(g.looks, g.until))}}.Stat(name)
}

func TestASaveIsToldWhenItIsWrittenToItsEnd(t *testing.T) {
	t.Parallel()
	g := &growing{until: 7}
	ctx, cancel := context.WithCancel(t.Context())
	var told []int
	watch.Folder(ctx, g, time.Millisecond, func(string) bool {
		told = append(told, g.looks)
		cancel()
		return true
	})
	if len(told) != 1 || told[0] != g.until+1 {
		t.Errorf("told after %v looks, it grew for %d", told, g.until)
	}
}
