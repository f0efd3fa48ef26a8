package ingest

import (
	"encoding/json"
	"reflect"
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/task"
)

// A field that is new in job.Request is to be taken too; a webhook is refused.
func TestARequestIsTakenWhole(t *testing.T) {
	t.Parallel()
	const body = `{"id":"a","input": {"text" : "\u00e9"},"session":"s","deadline":"30s","lane":"batch","tenant":"acme","stream":true,` +
		`"cache":"renew","parent":"b","metadata":[ 1.0 ]}`
	r := read([]byte(body), "", "toy", job.Batch, &task.Task{})
	var want job.Request
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		t.Fatal(err)
	}
	if r.code != "" || !reflect.DeepEqual(r.request, want) {
		t.Errorf("%v: %+v, want %+v", r.reasons, r.request, want)
	}
	for v, i := reflect.ValueOf(want), 0; i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Webhook" {
			t.Errorf("the request of this test has no %s", name)
		}
	}
}
