package doortest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"spillway/schemas"
)

const document = "https://spillway.invalid/asyncapi.json"

// readAsyncAPI compiles what the channels of the door tell.
func (c *Contract) readAsyncAPI(documents *schemas.Contract) error {
	text, err := documents.AsyncAPI("http://127.0.0.1")
	if err != nil {
		return err
	}
	whole, err := closed(text)
	if err != nil {
		return err
	}
	var d struct {
		Channels map[string]struct {
			Address  string
			Messages map[string]struct {
				Ref string `json:"$ref"`
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(document, whole); err != nil {
		return err
	}
	for _, channel := range d.Channels {
		if !strings.HasPrefix(channel.Address, "/") {
			continue
		}
		told := map[string]*jsonschema.Schema{}
		for name, message := range channel.Messages {
			if told[name], err = compiler.Compile(document + message.Ref + "/payload"); err != nil {
				return fmt.Errorf("compile %s of %s: %w", name, channel.Address, err)
			}
		}
		c.told[channel.Address] = told
	}
	return nil
}

// event is one as a channel tells it: the data of a server-sent event, or the whole message of a WebSocket.
type event struct {
	name    string
	payload []byte
}

// CheckTold says what of a stream or a WebSocket the document does not describe. Of the events that are passed on as
// they came only the names are looked at.
func (c *Contract) CheckTold(e *Exchange, passedOn []string) error {
	found := c.find(e.Request)
	if found.route == nil {
		return nil
	}
	var events []event
	var err error
	switch told := c.told[found.route.Path]; {
	case told == nil:
		return nil
	case e.Status == http.StatusSwitchingProtocols:
		events, err = messages(e.Received)
	case e.Status == http.StatusOK:
		events, err = serverSent(e.Received)
	}
	if err != nil {
		return err
	}
	for i, each := range events {
		schema := c.told[found.route.Path][each.name]
		if schema == nil {
			return fmt.Errorf("the event %q is not described", each.name)
		}
		sentAway := len(events) == 1 && each.name == "reconnect"
		if i == 0 && each.name != "state" && !sentAway {
			return fmt.Errorf("the first event is %q", each.name)
		}
		if slices.Contains(passedOn, each.name) {
			continue
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(each.payload))
		if err != nil {
			return fmt.Errorf("the event %q is no JSON: %w", each.name, err)
		}
		if err := schema.Validate(value); err != nil {
			return fmt.Errorf("the event %q with %s: %w", each.name, each.payload, err)
		}
	}
	return nil
}

// serverSent reads events as far as they are whole.
func serverSent(stream []byte) ([]event, error) {
	var all []event
	blocks := strings.Split(string(stream), "\n\n")
	for _, block := range blocks[:len(blocks)-1] {
		var e event
		var data []string
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "event":
				e.name = value
			case "data":
				data = append(data, value)
			case "id", "retry", ":":
			default:
				return nil, fmt.Errorf("the line %q is none of server-sent events", line)
			}
		}
		e.payload = []byte(strings.Join(data, "\n"))
		all = append(all, e)
	}
	return all, nil
}

// messages reads the text messages of a WebSocket's server, each in one frame, as far as they are whole.
func messages(stream []byte) ([]event, error) {
	const text, whole = 0x1, 0x80
	var all []event
	for len(stream) >= 2 {
		kind, size, head := stream[0], uint64(stream[1]), 2
		switch {
		case size == 126 && len(stream) >= 4:
			size, head = uint64(binary.BigEndian.Uint16(stream[2:])), 4
		case size == 127 && len(stream) >= 10:
			size, head = binary.BigEndian.Uint64(stream[2:]), 10
		case size > 127:
			return nil, errors.New("a server masks what it says")
		}
		if uint64(len(stream)-head) < size {
			break // cut
		}
		payload := stream[head : head+int(size)]
		stream = stream[head+int(size):]
		if kind == text|whole {
			var named struct{ Event string }
			if err := json.Unmarshal(payload, &named); err != nil {
				return nil, fmt.Errorf("a message is no JSON: %w", err)
			}
			all = append(all, event{named.Event, payload})
		}
	}
	return all, nil
}
