package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table is text in columns.
type table struct{ w *tabwriter.Writer }

// newTable begins a table; without a head it has none.
func newTable(w io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(head) > 0 {
		fmt.Fprintln(t.w, strings.ToUpper(strings.Join(head, "\t")))
	}
	return t
}

// row adds a line. Texts from outside are made harmless.
func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = oneLine(fmt.Sprint(c))
	}
	fmt.Fprintln(t.w, strings.Join(texts, "\t"))
}

// flush writes the table.
func (t *table) flush() error { return t.w.Flush() }

// oneLine makes text from outside fit for a terminal and a table: models and clients wrote it.
func oneLine(s string) string {
	return harmless(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(s))
}

// harmless shows control and bidirectional characters instead of obeying them; line ends and tabs stay.
func harmless(s string) string {
	isBad := func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
	}
	if strings.IndexFunc(s, isBad) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isBad(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// indent puts a margin before each line.
func indent(s string) string {
	const margin = "  "
	return margin + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+margin)
}

// span writes a duration for a person: 143ms, 1.84s, 12m, 3h, 2d.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < 10*time.Minute:
		return d.Round(time.Second).String()
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Round(time.Minute)/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Round(time.Hour)/time.Hour))
	}
	return fmt.Sprintf("%dd", int(d.Round(24*time.Hour)/(24*time.Hour)))
}

// size writes a number of bytes for a person.
func size(n int) string {
	switch {
	case n < 1<<10:
		return count(n, "byte")
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
