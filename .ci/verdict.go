// Command verdict reads `go test -json` from standard input. It prints what go test without -json would,
// then the slowest tests and the counts, and exits with 1 when a test failed, was skipped, or none ran.
//
//	go test -json ./... | verdict PACKAGES
//
// The closing line of each package and the counts are also written to the file PACKAGES.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// event is one line of test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type verdict struct {
	output                  map[string][]string // of tests that have not ended, and of packages
	passed, failed, skipped []event
	packages                []string
	broken                  bool
}

func main() {
	v := &verdict{output: map[string][]string{}}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			v.read(line)
		}
		if err != nil {
			break
		}
	}
	ok := v.report()
	if len(os.Args) > 1 {
		text := strings.Join(v.packages, "") + v.counts() + "\n"
		if err := os.WriteFile(os.Args[1], []byte(text), 0o600); err != nil {
			fmt.Println(err)
			ok = false
		}
	}
	if !ok {
		os.Exit(1)
	}
}

func (v *verdict) read(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		fmt.Print(line) // go's own words: a download, a compiler's complaint
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "build-fail":
		v.broken = true
	case "output":
		if strings.HasPrefix(e.Output, "=== ") {
			return // RUN, PAUSE, CONT
		}
		v.output[key] = append(v.output[key], e.Output)
		if e.Test == "" && isClosing(e.Output) {
			v.packages = append(v.packages, e.Output)
			fmt.Print(e.Output)
		}
	case "pass", "fail", "skip":
		v.end(e, key)
	}
}

// isClosing tells the line that go test ends a package with from what a test printed.
func isClosing(line string) bool {
	for _, start := range []string{"ok  \t", "FAIL\t", "?   \t", "---\t"} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return false
}

func (v *verdict) end(e event, key string) {
	output := v.output[key]
	delete(v.output, key)
	switch {
	case e.Test == "" && e.Action == "fail":
		v.broken = true
		fmt.Print(strings.Join(output, "")) // a panic or a race outside any test
	case e.Test == "":
	case e.Action == "pass":
		v.passed = append(v.passed, e)
	case e.Action == "skip":
		v.skipped = append(v.skipped, e)
		fmt.Print(strings.Join(output, ""))
	default:
		v.failed = append(v.failed, e)
		fmt.Print(strings.Join(output, ""))
	}
}

func (v *verdict) report() bool {
	slices.SortFunc(v.passed, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	fmt.Println("\nslowest tests:")
	for _, e := range v.passed[:min(10, len(v.passed))] {
		fmt.Printf("%7.1f s  %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	for _, e := range v.failed {
		fmt.Printf("failed:  %s %s\n", e.Package, e.Test)
	}
	for _, e := range v.skipped {
		fmt.Printf("skipped, and no test may be:  %s %s\n", e.Package, e.Test)
	}
	fmt.Println(v.counts())
	return !v.broken && len(v.failed) == 0 && len(v.skipped) == 0 && len(v.passed) > 0
}

func (v *verdict) counts() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", len(v.passed), len(v.failed), len(v.skipped))
}
