package schemas

import (
	_ "embed" // the two documents
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed openapi.yaml
var openAPI []byte

//go:embed asyncapi.yaml
var asyncAPI []byte

// Contract is what a door serves of itself: its two documents, each in one piece.
type Contract struct {
	openAPI, asyncAPI map[string]any
}

// ReadContract reads the documents, and puts the message schemas that they refer to into them.
func ReadContract() (*Contract, error) {
	var c Contract
	for name, d := range map[string]struct {
		text []byte
		into *map[string]any
	}{"openapi.yaml": {openAPI, &c.openAPI}, "asyncapi.yaml": {asyncAPI, &c.asyncAPI}} {
		whole, err := bundle(d.text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		*d.into = whole
	}
	return &c, nil
}

// OpenAPI is the document of the HTTP routes, as JSON, for a door at an address like https://llm.example.com.
func (c *Contract) OpenAPI(address string) ([]byte, error) {
	whole := with(c.openAPI, "servers", []any{map[string]any{"url": address}})
	return json.Marshal(whole)
}

// AsyncAPI is the document of the subjects, streams and WebSockets, as JSON, for a door at an address.
func (c *Contract) AsyncAPI(address string) ([]byte, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	host, folder, _ := strings.Cut(rest, "/")
	servers, _ := c.asyncAPI["servers"].(map[string]any)
	for name, protocol := range map[string]string{"http": scheme, "ws": "ws" + strings.TrimPrefix(scheme, "http")} {
		server, _ := servers[name].(map[string]any)
		server = with(with(server, "host", host), "protocol", protocol)
		if folder != "" {
			server = with(server, "pathname", "/"+folder)
		}
		servers = with(servers, name, server)
	}
	return json.Marshal(with(c.asyncAPI, "servers", servers))
}

// with is a copy of an object with another member.
func with(object map[string]any, name string, member any) map[string]any {
	other := maps.Clone(object)
	other[name] = member
	return other
}

// bundle reads a document, and moves what it refers to into its components.
func bundle(text []byte) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	var whole map[string]any
	if err := json.Unmarshal(asJSON, &whole); err != nil {
		return nil, err
	}
	components, _ := whole["components"].(map[string]any)
	if components == nil {
		return nil, fmt.Errorf("it has no components")
	}
	b := bundler{schemas: map[string]any{}}
	if own, ok := components["schemas"].(map[string]any); ok {
		b.schemas = own
	}
	if err := b.resolve(whole); err != nil {
		return nil, err
	}
	components["schemas"] = b.schemas
	return whole, nil
}

// bundler moves schemas of messages into a document.
type bundler struct {
	schemas map[string]any // of the document's components
}

const componentSchemas = "#/components/schemas/"

// resolve replaces the references to files below a node.
func (b *bundler) resolve(node any) error {
	switch node := node.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok && strings.HasPrefix(ref, "messages/") {
			name, err := b.add(ref)
			if err != nil {
				return err
			}
			node["$ref"] = componentSchemas + name
		}
		for _, member := range node {
			if err := b.resolve(member); err != nil {
				return err
			}
		}
	case []any:
		for _, member := range node {
			if err := b.resolve(member); err != nil {
				return err
			}
		}
	}
	return nil
}

// add puts the schema of a file into the components, once, and returns its name there: the schema's title. The
// definitions in it come beside it, with that name before theirs.
func (b *bundler) add(file string) (name string, err error) {
	text, err := fs.ReadFile(files, file)
	if err != nil {
		return "", err
	}
	var message map[string]any
	if err := json.Unmarshal(text, &message); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	name, _ = message["title"].(string)
	if name == "" {
		return "", fmt.Errorf("%s has no title", file)
	}
	if _, known := b.schemas[name]; known {
		return name, nil
	}
	definitions, _ := message["definitions"].(map[string]any)
	delete(message, "definitions")
	delete(message, "$schema")
	rename(message, name)
	b.schemas[name] = message
	for part, definition := range definitions {
		rename(definition, name)
		b.schemas[nameOf(name, part)] = definition
	}
	return name, nil
}

// rename makes the references to definitions of a file those to components of a document.
func rename(node any, name string) {
	switch node := node.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok && strings.HasPrefix(ref, "#/definitions/") {
			node["$ref"] = componentSchemas + nameOf(name, path.Base(ref))
		}
		for _, member := range node {
			rename(member, name)
		}
	case []any:
		for _, member := range node {
			rename(member, name)
		}
	}
}

// nameOf is the name of a definition of a message: ResultUsage.
func nameOf(message, definition string) string {
	return message + strings.ToUpper(definition[:1]) + definition[1:]
}
