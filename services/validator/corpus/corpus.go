// Package corpus holds malformed answers of language models, each with the verdict of a careful human.
package corpus

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed testdata/*.jsonl testdata/list.schema.json
var files embed.FS

// Line is one answer and what is to become of it.
type Line struct {
	// Name is a unique fragment of a sentence.
	Name string `json:"name"`
	// Task is onboarding, analyze or list.
	Task string `json:"task"`
	// Answer is the raw text of the model, which need not be UTF-8.
	Answer string `json:"answer"`
	// Base64 is true in the files where the answer is not UTF-8. Lines decodes it.
	Base64 bool `json:"base64"`
	// Repeat stands in the files for {repeat} in the answer. Lines writes it out.
	Repeat *Repeat `json:"repeat"`
	// FinishReason is stop or length.
	FinishReason string `json:"finish_reason"`
	// Verdict is an outcome of the validator, as a human would have it.
	Verdict string `json:"verdict"`
	// Output is the value that was meant; nil: there is none.
	Output json.RawMessage `json:"output"`
	// Class is valid, repairable, trap or hopeless.
	Class string `json:"class"`
	// Why says why no other verdict is right.
	Why    string `json:"why"`
	Source string `json:"source"`
	// File is the family's, without its directory.
	File string `json:"-"`
}

// Repeat is a text that is said many times.
type Repeat struct {
	Text  string `json:"text"`
	Times int    `json:"times"`
}

// Lines returns all lines, in the order of the files.
func Lines() ([]Line, error) {
	names, err := fs.Glob(files, "testdata/*.jsonl")
	if err != nil {
		return nil, err
	}
	var lines []Line
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		if lines, err = appendLines(lines, path.Base(name), text); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// Schema returns the output schema of a task that only the corpus has; nil: it has none of that name.
func Schema(task string) []byte {
	text, err := files.ReadFile("testdata/" + task + ".schema.json")
	if err != nil {
		return nil
	}
	return text
}

func appendLines(lines []Line, file string, text []byte) ([]Line, error) {
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, len(text)+1)
	for n := 1; s.Scan(); n++ {
		line := Line{File: file, FinishReason: "stop"}
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if err := line.complete(); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		lines = append(lines, line)
	}
	return lines, s.Err()
}

// complete makes the answer what the model said.
func (l *Line) complete() error {
	if l.Repeat != nil {
		l.Answer = strings.Replace(l.Answer, "{repeat}", strings.Repeat(l.Repeat.Text, l.Repeat.Times), 1)
	}
	if !l.Base64 {
		return nil
	}
	answer, err := base64.StdEncoding.DecodeString(l.Answer)
	l.Answer = string(answer)
	return err
}
