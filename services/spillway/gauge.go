package main

import "github.com/schollz/progressbar/v3"

// gauge is a progress bar on a person's terminal; elsewhere it shows nothing.
type gauge struct{ bar *progressbar.ProgressBar }

// newGauge shows progress on standard error. total -1: not known yet.
func (g *globals) newGauge(total int, what string) *gauge {
	if !isTerminal(g.stderr) {
		return &gauge{}
	}
	return &gauge{progressbar.NewOptions(total,
		progressbar.OptionSetWriter(g.stderr), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
	)}
}

// The errors of a bar are those of a terminal that went away: the work goes on without it.

func (b *gauge) add() {
	if b.bar != nil {
		_ = b.bar.Add(1)
	}
}

func (b *gauge) total(n int) {
	if b.bar != nil {
		b.bar.ChangeMax(n)
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
		_ = b.bar.Finish()
		_ = b.bar.Clear()
	}
}
