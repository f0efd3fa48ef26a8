package deploy_test

import (
	"os"
	"strings"
	"testing"

	"spillway/services"
)

// The Tiltfile runs each stage as its own process.
func TestTheTiltfileRunsEveryStageInOrder(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Tiltfile")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range services.Pipeline() {
		names = append(names, "'"+d.Name+"'")
	}
	if want := "stages = [" + strings.Join(names, ", ") + "]"; !strings.Contains(string(text), want) {
		t.Errorf("the Tiltfile has no line\n%s", want)
	}
}
