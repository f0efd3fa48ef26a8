package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is what a YAML node is.
type kind int

const (
	kindNull kind = iota
	kindText
	kindNumber
	kindTruth
	kindList
	kindMapping
)

// String names the kind as a fault does.
func (k kind) String() string {
	return [...]string{"nothing", "a text", "a number", "a boolean", "a list", "a mapping"}[k]
}

// node is a YAML value with its place.
type node struct {
	kind         kind
	line, column int
	// text is a scalar's value as it is written, without quotes.
	text string
	// block: the text is a block scalar (| or >), which begins on the line below.
	block   bool
	items   []node
	members []member
	size    int
}

type member struct {
	key          string
	line, column int
	value        node
}

// maxNodes bounds a file with its aliases expanded.
const maxNodes = 100_000

// parseYAML reads a file of one document.
func parseYAML(file string, text []byte) (n node, fault *Fault) {
	defer func() {
		if cause := recover(); cause != nil {
			fault = &Fault{File: file, Message: fmt.Sprintf("the YAML can not be read: %v", cause)}
		}
	}()
	if !utf8.Valid(text) {
		return node{}, &Fault{File: file, Message: "the file is not UTF-8"}
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			at := syntax.Token.Position
			return node{}, &Fault{File: file, Line: at.Line, Column: at.Column, Message: syntax.Message}
		}
		return node{}, &Fault{File: file, Message: err.Error()}
	}
	if len(parsed.Docs) > 1 {
		at := parsed.Docs[1].GetToken().Position
		return node{}, &Fault{File: file, Line: at.Line, Message: "a file has one document, no ---"}
	}
	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return node{line: 1, column: 1}, nil
	}
	c := converter{file: file, anchors: map[string]node{}}
	return c.convert(parsed.Docs[0].Body)
}

type converter struct {
	file    string
	anchors map[string]node
}

func (c converter) fault(n ast.Node, format string, args ...any) *Fault {
	at := n.GetToken().Position
	return &Fault{File: c.file, Line: at.Line, Column: at.Column, Message: fmt.Sprintf(format, args...)}
}

func (c converter) convert(from ast.Node) (node, *Fault) {
	at := from.GetToken().Position
	n := node{line: at.Line, column: at.Column, text: from.GetToken().Value, size: 1}
	switch v := from.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		n.kind = kindTruth
	case *ast.IntegerNode:
		n.kind, n.text = kindNumber, fmt.Sprint(v.Value)
	case *ast.FloatNode:
		n.kind, n.text = kindNumber, jsonFloat(n.text, v.Value)
		if !jsonNumber.MatchString(n.text) {
			return n, c.fault(from, "%s is too large a number", n.text)
		}
	case *ast.StringNode:
		n.kind, n.text = kindText, v.Value
		if v.GetToken().Type == token.StringType && jsonNumber.MatchString(v.Value) {
			n.kind = kindNumber // 1e3, which YAML 1.2 calls a number
		}
	case *ast.LiteralNode:
		n.kind, n.text, n.block = kindText, v.Value.Value, true
	case *ast.SequenceNode:
		return c.list(n, v)
	case *ast.MappingNode:
		return c.mapping(n, v.Values)
	case *ast.MappingValueNode:
		return c.mapping(n, []*ast.MappingValueNode{v})
	case *ast.AnchorNode:
		return c.anchor(v)
	case *ast.AliasNode:
		known, ok := c.anchors[v.Value.GetToken().Value]
		if !ok {
			return n, c.fault(v, "no anchor &%s stands before this", v.Value.GetToken().Value)
		}
		known.line, known.column = n.line, n.column
		return known, nil
	default:
		return n, c.fault(from, "%s is not taken here: write it as plain YAML", from.Type())
	}
	return n, nil
}

func (c converter) anchor(v *ast.AnchorNode) (node, *Fault) {
	n, fault := c.convert(v.Value)
	if fault == nil {
		c.anchors[v.Name.GetToken().Value] = n
	}
	return n, fault
}

func (c converter) list(n node, v *ast.SequenceNode) (node, *Fault) {
	n.kind = kindList
	for _, value := range v.Values {
		item, fault := c.convert(value)
		if fault != nil {
			return n, fault
		}
		n.items = append(n.items, item)
		if n.size += item.size; n.size > maxNodes {
			return n, c.fault(v, "the file holds more than %d values", maxNodes)
		}
	}
	return n, nil
}

func (c converter) mapping(n node, values []*ast.MappingValueNode) (node, *Fault) {
	n.kind = kindMapping
	for i, value := range values {
		at := value.Key.GetToken().Position
		if i == 0 && n.text == ":" {
			n.line, n.column = at.Line, at.Column
		}
		switch value.Key.(type) {
		case *ast.MergeKeyNode:
			return n, c.fault(value.Key, "<< is not taken: write the keys out")
		case *ast.StringNode, *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode:
		default:
			return n, c.fault(value.Key, "a key must be a text")
		}
		converted, fault := c.convert(value.Value)
		if fault != nil {
			return n, fault
		}
		key := value.Key.GetToken().Value
		if text, ok := value.Key.(*ast.StringNode); ok {
			key = text.Value
		}
		n.members = append(n.members, member{key, at.Line, at.Column, converted})
		if n.size += converted.size; n.size > maxNodes {
			return n, c.fault(value.Key, "the file holds more than %d values", maxNodes)
		}
	}
	return n, nil
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// jsonFloat keeps the digits of a float when JSON writes it so too.
func jsonFloat(text string, value float64) string {
	if jsonNumber.MatchString(text) {
		return text
	}
	plain, err := json.Marshal(value)
	if err != nil {
		return text
	}
	return string(plain)
}

// json returns the value as schema.Decode makes it.
func (n node) json() any {
	switch n.kind {
	case kindText:
		return n.text
	case kindNumber:
		return json.Number(n.text)
	case kindTruth:
		return strings.EqualFold(n.text, "true")
	case kindList:
		items := make([]any, len(n.items))
		for i, item := range n.items {
			items[i] = item.json()
		}
		return items
	case kindMapping:
		members := make(map[string]any, len(n.members))
		for _, m := range n.members {
			members[m.key] = m.value.json()
		}
		return members
	default:
		return nil
	}
}

// child is the member or item that a token of a JSON pointer names.
func (n node) child(token string) (node, bool) {
	for _, m := range n.members {
		if m.key == token {
			return m.value, true
		}
	}
	if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.items) {
		return n.items[i], true
	}
	return node{}, false
}
