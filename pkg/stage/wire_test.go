package stage

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"spillway/pkg/job"
)

func TestAJobComesBackAsItWasSent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*job.Job){
		"whole":                  func(*job.Job) {},
		"without a prompt":       func(j *job.Job) { j.Prompt = job.Prompt{} },
		"without any part":       func(j *job.Job) { j.Input, j.Metadata, j.Prompt = nil, nil, job.Prompt{} },
		"an input of two lines":  func(j *job.Job) { j.Input = json.RawMessage("{\n\"text\": \"a\"}\n") },
		"words that tags are of": func(j *job.Job) { j.Prompt = job.NewPrompt(job.Message{Role: "user", Content: "<b>&\u2028\"\\"}) },
	} {
		j := sample(1500)
		change(j)
		message, err := encode(j)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := decode(message)
		if err != nil || !reflect.DeepEqual(got, j) {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, j)
		}
	}
}

// What people publish by hand, and what is kept as a dead letter, is JSON as encoding/json writes it.
func TestAJobThatIsOnePieceOfJSONIsOneToo(t *testing.T) {
	t.Parallel()
	j := sample(1500)
	whole, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	if err := json.Indent(&lines, whole, "", "  "); err != nil {
		t.Fatal(err)
	}
	for _, message := range [][]byte{whole, lines.Bytes(), append(whole, '\n')} {
		got, err := decode(message)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(got)
		if err != nil || !bytes.Equal(again, whole) {
			t.Errorf("%.80s: became %s, %v", message, again, err)
		}
	}
}

func TestPartsThatAreNotAsLongAsTheySayAreRefused(t *testing.T) {
	t.Parallel()
	message, err := encode(sample(100))
	if err != nil {
		t.Fatal(err)
	}
	parts := message[bytes.Index(message, []byte(`"parts":[`)):]
	parts = parts[:bytes.IndexByte(parts, ']')+1]
	for _, bad := range []string{`"parts":[0,0,0]`, `"parts":[-1,0,0]`, `"parts":[1000000,0,0]`, `"parts":[9223372036854775807,1,1]`, `"parts":["a"]`} {
		if j, err := decode([]byte(strings.Replace(string(message), string(parts), bad, 1))); err == nil {
			t.Errorf("%s was read as %+v", bad, j)
		}
	}
	for _, cut := range []int{1, 10, len(message) / 2} {
		if j, err := decode(message[:len(message)-cut]); err == nil {
			t.Errorf("without its last %d bytes the message was read as %+v", cut, j)
		}
	}
}
