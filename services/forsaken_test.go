package services_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// withoutSmall takes model small out of the files: its tasks have another one.
func withoutSmall(files fstest.MapFS) fstest.MapFS {
	changed := fstest.MapFS{}
	for name, f := range files {
		data := string(f.Data)
		switch {
		case name == "models.yaml":
			data = strings.Replace(data, "  small: {provider", "  tiny: {provider", 1)
		case strings.HasSuffix(name, "task.yaml"):
			data = strings.ReplaceAll(data, "model: small", "model: tiny")
		}
		changed[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return changed
}

func TestJobsThatWaitForAModelThatIsGoneGoToTheLadderAtTheNextStart(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, halfOpenAfter("1s"))
	stop := r.run()
	r.down()
	ids, _ := r.parks(job.Interactive, "patient", 3, "5m")
	more, _ := r.parks(job.Batch, "patient", 2, "5m")
	stop()
	before := r.first.Counts().Calls
	r.tasks = load(t, withoutSmall(r.files))
	r.run()
	for _, id := range append(ids, more...) {
		result := r.result(id, 1)
		check(t, "its model is gone", result, byCanned)
		if result.Degraded == nil || result.Degraded.Reason != fate.ProviderRefusedRequest {
			t.Errorf("degraded %+v, want because there is no such model", result.Degraded)
		}
	}
	r.emptied(10 * time.Second)
	if n := r.first.Counts().Calls - before; n != 0 {
		t.Errorf("%d calls for a model that is not there", n)
	}
}
