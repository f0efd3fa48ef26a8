package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of what Decode takes. They hold for input of clients and of models alike, so that nothing behind
// Decode has to fear its depth or its numbers.
const (
	// MaxDepth is how deep arrays and objects may nest.
	MaxDepth = 128
	// MaxNumberLength is the longest number, in bytes.
	MaxNumberLength = 64
	// MaxExponent is the largest exponent of a number, by its absolute value. Arithmetic on exact numbers
	// takes time and memory in proportion to it, and beyond 1,000,000 math/big gives up.
	MaxExponent = 400
)

// SyntaxError says why a text is not one well-formed JSON value.
type SyntaxError struct {
	// Offset is the position in bytes, from 0.
	Offset int
	// Pointer leads to the innermost value that was reached.
	Pointer string
	Message string
}

// Error gives message, pointer and offset.
func (e *SyntaxError) Error() string {
	if e.Pointer == "" {
		return fmt.Sprintf("%s (at byte %d)", e.Message, e.Offset)
	}
	return fmt.Sprintf("%s (at %s, byte %d)", e.Message, e.Pointer, e.Offset)
}

// Decode reads exactly one JSON value, in UTF-8, without duplicate keys, within the bounds above.
//
// It returns nil, bool, string, json.Number (so that no precision is lost), []any or map[string]any.
// Its errors are of type *SyntaxError.
func Decode(raw []byte) (any, error) {
	d := newDecoder(raw)
	return d.whole()
}

// DecodeMembers is Decode for who also needs the members of an object as they are written: parts of raw, by name. There
// are none of what is no object.
func DecodeMembers(raw []byte) (any, map[string]json.RawMessage, error) {
	d := newDecoder(raw)
	d.members = map[string]json.RawMessage{}
	value, err := d.whole()
	return value, d.members, err
}

type decoder struct {
	*jsontext.Decoder
	raw []byte
	// members takes those of the outermost object; nil: nobody asks for them.
	members map[string]json.RawMessage
}

func newDecoder(raw []byte) decoder {
	return decoder{Decoder: jsontext.NewDecoder(bytes.NewBuffer(raw)), raw: raw}
}

func (d decoder) whole() (any, error) {
	value, err := d.value()
	if err != nil {
		return nil, d.fault(err, len(d.raw))
	}
	end := d.InputOffset()
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		rest := bytes.TrimLeft(d.raw[end:], blank)
		return nil, &SyntaxError{Offset: len(d.raw) - len(rest), Message: "there is more text after the JSON value"}
	}
	return value, nil
}

// blank is white space in JSON.
const blank = " \t\r\n"

func (d decoder) value() (any, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return token.Bool(), nil
	case '"':
		return token.String(), nil
	case '0':
		return d.number(token.String())
	case '[':
		return d.array()
	default:
		return d.object()
	}
}

func (d decoder) array() (any, error) {
	if err := d.checkDepth(); err != nil {
		return nil, err
	}
	items := []any{}
	for d.PeekKind() != ']' {
		item, err := d.value()
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err := d.ReadToken()
	return items, err
}

func (d decoder) object() (any, error) {
	if err := d.checkDepth(); err != nil {
		return nil, err
	}
	members := map[string]any{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		// The token's bytes are void after the next read.
		key := name.String()
		begin := d.InputOffset()
		if members[key], err = d.value(); err != nil {
			return nil, err
		}
		if d.members != nil && d.StackDepth() == 1 {
			end := d.InputOffset()
			d.members[key] = bytes.TrimLeft(d.raw[begin:end:end], ":"+blank)
		}
	}
	_, err := d.ReadToken()
	return members, err
}

func (d decoder) checkDepth() error {
	if d.StackDepth() > MaxDepth {
		return d.refuse(1, fmt.Sprintf("arrays and objects nest deeper than %d", MaxDepth))
	}
	return nil
}

func (d decoder) number(text string) (any, error) {
	if len(text) > MaxNumberLength {
		return nil, d.refuse(len(text), fmt.Sprintf("a number is longer than %d characters", MaxNumberLength))
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		exponent, err := strconv.Atoi(text[i+1:])
		if err != nil || exponent > MaxExponent || exponent < -MaxExponent {
			return nil, d.refuse(len(text), fmt.Sprintf("the exponent of a number is beyond ±%d", MaxExponent))
		}
		// Readers of JSON would take it for infinite, or for an error. No number without an exponent is so large.
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return nil, d.refuse(len(text), "a number is beyond ±1.8e308, the largest that a double can hold")
		}
	}
	return json.Number(text), nil
}

// refuse makes the error for the token that was just read, which is length bytes long.
func (d decoder) refuse(length int, message string) error {
	return &SyntaxError{
		Offset:  int(d.InputOffset()) - length,
		Pointer: string(d.StackPointer()),
		Message: message,
	}
}

func (d decoder) fault(err error, size int) error {
	if own, ok := errors.AsType[*SyntaxError](err); ok {
		return own
	}
	syntactic, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		if size == 0 || errors.Is(err, io.EOF) {
			return &SyntaxError{Message: "the text is empty"}
		}
		return &SyntaxError{Offset: int(d.InputOffset()), Message: err.Error()}
	}
	fault := &SyntaxError{Offset: int(syntactic.ByteOffset), Pointer: string(syntactic.JSONPointer)}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		fault.Message = "the key is given twice"
	case errors.Is(err, io.ErrUnexpectedEOF):
		fault.Offset = size
		fault.Message = "the text ends before the JSON value does"
	default:
		fault.Message = syntactic.Err.Error()
	}
	return fault
}
