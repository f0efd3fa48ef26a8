package drill_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
)

func TestEachRequestHasAnInputOfItsOwnThatTheTaskTakesAndThePromptShows(t *testing.T) {
	t.Parallel()
	prompt := `{{define "user"}}{{.Input.kind}} {{.Input.note}}{{end}}`
	for name, c := range map[string]struct {
		kind, note, input, want string
	}{
		"the longest text gets a mark":         {`{}`, `{}`, `{"kind":"a","note":"longer"}`, `"note":"longer (drill `},
		"a text that no prompt shows does not": {`{}`, `{}`, `{"kind":"a","hidden":"the longest of all","note":5}`, `"kind":"a (drill `},
		"a short one is replaced":              {`{}`, `{"maxLength":24}`, `{"kind":1,"note":"just no room"}`, `"note":"(drill `},
		"an enum is left":                      {`{"enum":["longer than the note"]}`, `{}`, `{"kind":"longer than the note","note":"n"}`, `"note":"n (drill `},
		"within lists too":                     {`{}`, `{}`, `{"kind":["x"],"note":1}`, `"kind":["x (drill `},
		"nothing to mark":                      {`{}`, `{}`, `{"kind":1,"note":2}`, "no text that may hold a mark"},
		"no JSON":                              {`{}`, `{}`, `{`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t, 4)
			s.options.Tasks = load(t, map[string]string{
				"tasks/toy/prompt.tmpl":       prompt,
				"tasks/toy/input.schema.json": fmt.Sprintf(`{"type":"object","required":["kind","note"],"properties":{"kind":%s,"note":%s}}`, c.kind, c.note),
			})
			s.options.Inputs = [][]byte{[]byte(c.input)}
			inputs := make(chan string, 1)
			ctx, cancel := context.WithCancel(t.Context())
			sub, err := s.conn.NC.Subscribe(broker.AllRequests, func(m *nats.Msg) {
				select {
				case inputs <- string(m.Data):
				default:
				}
				cancel()
			})
			if err != nil || s.conn.NC.Flush() != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			_, err = s.drill(ctx)
			cancel()
			got := fmt.Sprint(err)
			select {
			case got = <-inputs:
			default:
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
