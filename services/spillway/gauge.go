package main

import "github.com/schollz/progressbar/v3"

// gauge is a progress bar on a person's terminal; elsewhere it shows nothing.
type gauge struct {
	g    *globals
	what string
	n    int
	bar  *progressbar.ProgressBar
}

// newGauge shows progress on standard error. total -1: not known yet.
func (g *globals) newGauge(total int, what string) *gauge {
	b := &gauge{g: g, what: what}
	b.total(total)
	return b
}

// The errors of a bar are those of a terminal that went away: the work goes on without it.

// total begins the bar anew with what is known now.
func (b *gauge) total(n int) {
	if !isTerminal(b.g.stderr) {
		return
	}
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	b.bar = progressbar.NewOptions(n,
		progressbar.OptionSetWriter(b.g.stderr), progressbar.OptionSetDescription(b.what), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // the bar's own goroutine would go on drawing after done
	)
	_ = b.bar.Set(b.n)
}

func (b *gauge) add() {
	b.n++
	if b.bar != nil {
		_ = b.bar.Set(b.n)
	}
}

// aside writes something else while the bar is out of the way.
func (b *gauge) aside(write func() error) error {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	return write()
}

func (b *gauge) done() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
