package inference

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// twoKeys gives the provider two keys in a file.
func twoKeys(t *testing.T, url string) *bundle {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("key-one\nkey-two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return setup(t, url, func(env *stage.Env) {
		env.Tasks.Providers["main"] = &task.Provider{Name: "main", Kind: task.KindOpenAI, BaseURL: url, APIKeyFile: path}
	})
}

func TestSeveralKeysTakeTurns(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{})
	b := twoKeys(t, p.URL())
	for range 4 {
		if err := b.Handle(t.Context(), newJob(job.Interactive)); err != nil {
			t.Fatal(err)
		}
	}
	keys := p.Counts().Keys
	if keys["key-one"].Calls != 2 || keys["key-two"].Calls != 2 {
		t.Errorf("calls by key: %+v", keys)
	}
}

func TestARefusedKeyIsSetAsideWhileAnotherOneWorks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{fakellm.KindUnauthorized, fakellm.KindQuota} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: kind, Key: "key-one"}}})
			b := twoKeys(t, p.URL())
			var ends []error
			for range 5 {
				j := newJob(job.Interactive)
				err := b.Handle(t.Context(), j)
				if err != nil {
					err = b.Handle(t.Context(), j) // the retry, as the runner hands it in again
				}
				ends = append(ends, err)
			}
			if i := slices.IndexFunc(ends, func(err error) bool { return err != nil }); i >= 0 {
				t.Errorf("job %d: %v", i, ends[i])
			}
			if n := p.Counts().Keys["key-one"].Calls; n != 1 {
				t.Errorf("the refused key was used %d times, want once", n)
			}
		})
	}
}

func TestKeysThatAreAllRefusedAreTriedInTheOrderOfTheirRest(t *testing.T) {
	t.Parallel()
	k := &keys{all: []string{"a", "b"}}
	now := time.Unix(1_800_000_000, 0)
	if !k.refused("b", now) {
		t.Error("b is refused, and a is said not to be left")
	}
	if k.refused("a", now.Add(time.Second)) {
		t.Error("both are refused, and one is said to be left")
	}
	if got := k.take(now.Add(2 * time.Second)); got != "b" {
		t.Errorf("took %q, want the one that rests longest", got)
	}
	if k.refused("b", now.Add(3*time.Second)); k.take(now.Add(4*time.Second)) != "a" {
		t.Error("took b again, though a rests longer")
	}
	if got := k.take(now.Add(2 * time.Minute)); got == "" {
		t.Error("no key after the rest")
	}
}
