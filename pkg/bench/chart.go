package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/template"
)

// curve is a line of a chart.
type curve struct {
	Name, Color string
	values      []float64
}

// chart is lines over 1, 2, 3 …, drawn as SVG.
type chart struct {
	Title, XName, YName string
	curves              []curve
}

// The places of a chart, in pixels.
const (
	chartWidth   = 860
	chartHeight  = 440
	chartLeft    = 80
	chartRight   = 30
	chartTop     = 60
	chartBottom  = 60
	chartTicks   = 5
	legendHeight = 20
)

// chartTemplate prints nothing that comes from outside: titles are this package's, the rest is numbers.
const chartTemplate = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" font-family="sans-serif" font-size="13" fill="#333">
<title>{{.Title}}</title>
<rect width="{{.Width}}" height="{{.Height}}" fill="#fff"/>
<text x="{{.Left}}" y="28" font-size="16">{{.Title}}</text>
{{range .Y}}<path d="M{{$.Left}} {{.At}}H{{$.Right}}" stroke="#ddd"/><text x="{{$.Left}}" dx="-8" y="{{.At}}" dy="4" text-anchor="end">{{.Label}}</text>
{{end}}{{range .X}}<path d="M{{.At}} {{$.Bottom}}v5" stroke="#999"/><text x="{{.At}}" y="{{$.Bottom}}" dy="20" text-anchor="middle">{{.Label}}</text>
{{end}}<path d="M{{.Left}} {{.Top}}V{{.Bottom}}H{{.Right}}" fill="none" stroke="#999"/>
<text x="{{.Right}}" y="{{.Bottom}}" dy="40" text-anchor="end">{{.XName}}</text>
<text x="{{.Left}}" y="{{.Top}}" dy="-10" text-anchor="end">{{.YName}}</text>
{{range .Lines}}<polyline points="{{.Points}}" fill="none" stroke="{{.Color}}" stroke-width="2"/>
<path d="M{{$.Left}} {{.Legend}}m12 0h24" stroke="{{.Color}}" stroke-width="2"/><text x="{{$.Left}}" dx="44" y="{{.Legend}}" dy="4">{{.Name}}</text>
{{end}}</svg>
`

type tick struct{ At, Label string }

// pixels is a place with a tenth of a pixel: finer is not seen.
func pixels(at float64) string { return strconv.FormatFloat(at, 'f', 1, 64) }

type line struct {
	curve
	Points string
	Legend int
}

// draw writes the chart. It needs one value at least.
func (c *chart) draw(w io.Writer) error {
	parsed, err := template.New("chart").Parse(chartTemplate)
	if err != nil {
		return fmt.Errorf("parse the chart: %w", err)
	}
	most, length := 1.0, 2
	for _, one := range c.curves {
		length = max(length, len(one.values))
		for _, v := range one.values {
			most = max(most, v)
		}
	}
	step := niceStep(most / chartTicks)
	most = math.Ceil(most/step) * step
	x := func(i float64) float64 { return chartLeft + i/float64(length-1)*(chartWidth-chartLeft-chartRight) }
	y := func(v float64) float64 { return chartHeight - chartBottom - v/most*(chartHeight-chartTop-chartBottom) }
	data := struct {
		*chart
		Width, Height, Left, Right, Top, Bottom int
		X, Y                                    []tick
		Lines                                   []line
	}{chart: c, Width: chartWidth, Height: chartHeight, Left: chartLeft, Right: chartWidth - chartRight, Top: chartTop, Bottom: chartHeight - chartBottom}
	for v := 0.0; v <= most; v += step {
		data.Y = append(data.Y, tick{pixels(y(v)), fmt.Sprintf("%.0f", v)})
	}
	across := max(1, niceStep(float64(length)/chartTicks))
	for i := across; i <= float64(length); i += across {
		data.X = append(data.X, tick{pixels(x(i - 1)), fmt.Sprintf("%.0f", i)})
	}
	for n, one := range c.curves {
		var points strings.Builder
		for i, v := range one.values {
			points.WriteString(pixels(x(float64(i))) + "," + pixels(y(v)) + " ")
		}
		data.Lines = append(data.Lines, line{one, strings.TrimSpace(points.String()), chartTop + (n+1)*legendHeight})
	}
	if err := parsed.Execute(w, data); err != nil {
		return fmt.Errorf("draw the chart: %w", err)
	}
	return nil
}

// niceStep is 1, 2 or 5 times a power of ten, and at least about: people read these off best.
func niceStep(about float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(about)))
	for _, nice := range []float64{1, 2, 5} {
		if nice*power >= about {
			return nice * power
		}
	}
	return 10 * power
}

// Draw writes both curves as SVG.
func (r *ContextReport) Draw(w io.Writer) error {
	c := chart{
		Title: fmt.Sprintf("Tokens of each prompt in a session of %d turns, as the provider counts", len(r.Requests)), XName: "request", YName: "tokens",
		curves: []curve{{Name: fmt.Sprintf("Spillway, budget %d", r.Budget), Color: "#1668b8"}, {Name: "the whole history, sent each time", Color: "#c4472b"}},
	}
	for _, q := range r.Requests {
		c.curves[0].values = append(c.curves[0].values, float64(q.Provider))
		c.curves[1].values = append(c.curves[1].values, float64(q.Full))
	}
	return c.draw(w)
}
