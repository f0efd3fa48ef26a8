package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// drawn is what a picture has, read as XML.
type drawn struct {
	lines [][][2]float64
	texts []string
}

func draw(t *testing.T, r *ContextReport) drawn {
	t.Helper()
	var b bytes.Buffer
	if err := r.Draw(&b); err != nil {
		t.Fatal(err)
	}
	var d drawn
	decoder := xml.NewDecoder(&b)
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local == "polyline" {
				d.lines = append(d.lines, pointsOf(t, e.Attr))
			}
		case xml.CharData:
			d.texts = append(d.texts, strings.TrimSpace(string(e)))
		}
	}
}

func pointsOf(t *testing.T, attributes []xml.Attr) (points [][2]float64) {
	t.Helper()
	for _, a := range attributes {
		if a.Name.Local != "points" {
			continue
		}
		for pair := range strings.FieldsSeq(a.Value) {
			x, y, _ := strings.Cut(pair, ",")
			left, err := strconv.ParseFloat(x, 64)
			if err != nil {
				t.Fatal(err)
			}
			top, err := strconv.ParseFloat(y, 64)
			if err != nil {
				t.Fatal(err)
			}
			points = append(points, [2]float64{left, top})
		}
	}
	return points
}

func TestTheCurvesAreDrawnToScale(t *testing.T) {
	t.Parallel()
	r := &ContextReport{Budget: 100}
	for n := range 5 {
		r.Requests = append(r.Requests, ContextRequest{Provider: 100, Full: 200 * n})
	}
	d := draw(t, r)
	if len(d.lines) != 2 || len(d.lines[0]) != 5 || len(d.lines[1]) != 5 {
		t.Fatalf("%d lines", len(d.lines))
	}
	flat, full := d.lines[0], d.lines[1]
	const bottom, top = chartHeight - chartBottom, chartTop
	if full[0] != [2]float64{chartLeft, bottom} || full[4] != [2]float64{chartWidth - chartRight, top} {
		t.Errorf("0 of the first request and 800, the top, of the last are at %v and %v", full[0], full[4])
	}
	for i, p := range flat {
		if want := float64(bottom - (bottom-top)/8); p[1] != want || p[0] != full[i][0] {
			t.Errorf("100 of 800 is at %v, want height %v", p, want)
		}
	}
	for _, text := range []string{"0", "200", "800", "Spillway, budget 100", "the whole history, sent each time", "5"} {
		if !slices.Contains(d.texts, text) {
			t.Errorf("%q is not in it: %q", text, d.texts)
		}
	}
}

func TestAPictureOfOneRequestIsOne(t *testing.T) {
	t.Parallel()
	if d := draw(t, &ContextReport{Requests: []ContextRequest{{Provider: 3, Full: 3}}}); len(d.lines) != 2 || len(d.lines[0]) != 1 {
		t.Errorf("%+v", d)
	}
}

func TestStepsOfAnAxisAreRoundNumbers(t *testing.T) {
	t.Parallel()
	for about, want := range map[float64]float64{1: 1, 1.1: 2, 3: 5, 7: 10, 160: 200, 11_598: 20_000} {
		if got := niceStep(about); got != want {
			t.Errorf("about %v: %v, want %v", about, got, want)
		}
	}
}
