package fate_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fate"
)

var update = flag.Bool("update", false, "write CODES.md anew")

func TestTheTableOfCodesIsCurrent(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Error codes\n\nWritten from `code.go` by `go generate ./pkg/fate`. The set is closed.\n\n")
	b.WriteString("| code | status | meaning | remedy |\n|---|---|---|---|\n")
	for _, d := range fate.Codes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Code, d.Status, d.Meaning, d.Remedy)
	}
	if *update {
		if err := os.WriteFile("CODES.md", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile("CODES.md")
	if err != nil || string(stored) != b.String() {
		t.Fatalf("CODES.md is not what code.go says (%v); run go generate ./pkg/fate", err)
	}
}

func TestEveryCodeIsInTheTableOnceWithAMeaningAndARemedy(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("code.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[fate.Code]bool{}
	for _, d := range fate.Codes() {
		if seen[d.Code] || d.Meaning == "" || d.Remedy == "" || d.Status == "" {
			t.Errorf("row %+v", d)
		}
		seen[d.Code] = true
	}
	constants := strings.Count(string(source), `Code = "`)
	if constants != len(seen) {
		t.Errorf("%d codes are declared, %d are in the table", constants, len(seen))
	}
}

func TestAnErrorWithoutAFateIsRetriedAndKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("the broker did not answer")
	f := fate.Of(fmt.Errorf("read: %w", cause))
	if f.Fate != fate.Retry || f.Code != fate.Internal || f.After <= 0 || !errors.Is(f, cause) {
		t.Fatalf("%+v", f)
	}
	wrapped := fmt.Errorf("call: %w", fate.RetryAfter(time.Second, fate.ProviderUnavailable, "busy", cause))
	if got := fate.Of(wrapped); got.Code != fate.ProviderUnavailable || got.After != time.Second {
		t.Fatalf("%+v", got)
	}
	if !errors.Is(wrapped, &fate.Error{Code: fate.ProviderUnavailable}) || errors.Is(wrapped, &fate.Error{Code: fate.Refused}) || !errors.Is(wrapped, cause) {
		t.Fatal("the chain is not told apart by code")
	}
}
