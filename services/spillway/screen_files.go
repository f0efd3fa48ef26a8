package main

import (
	"fmt"
	"sync"
	"time"
)

// filesScreen shows what becomes of the task files on the screen of `up`. What comes before that is there is shown with it.
type filesScreen struct {
	g *globals

	mu     sync.Mutex
	shown  bool
	before []filesEvent
}

func (s *filesScreen) tell(e filesEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shown {
		s.before = append(s.before, e)
		return
	}
	s.print(e, time.Now().Format(time.TimeOnly)+"  ")
}

// show begins to show.
func (s *filesScreen) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.before {
		s.print(e, "           ")
	}
	s.shown, s.before = true, nil
}

// print writes an event behind a margin.
func (s *filesScreen) print(e filesEvent, margin string) {
	if s.g.cli.JSON {
		e.Event = "files-" + e.Event
		_ = s.g.printJSON(e) // a screen that is gone shows nothing
		return
	}
	s.g.printf("%s%s\n", margin, e.sentence())
	for _, fault := range e.Faults {
		s.g.printf("%s  %s\n", margin, fault)
	}
}

func (e filesEvent) sentence() string {
	switch e.Event {
	case filesLive:
		return fmt.Sprintf("%s: version %s is live now", e.Task, e.Version)
	case filesLeft:
		live := "the task was taken out"
		if e.Record.Live != "" {
			live = "live is " + e.Record.Live
		}
		return fmt.Sprintf("%s: the files here are version %s, %s since %s by %s; `spillway task push %s` makes %s live",
			e.Task, e.Version, live, e.Record.Since.Local().Format(time.DateTime), e.Record.By, e.Task, e.Version)
	case filesOut:
		return e.Task + ": taken out, it is in no file any more"
	case filesGone:
		return fmt.Sprintf("%s: in no file any more, it stays live; `spillway task rm %s` takes it out", e.Task, e.Task)
	case filesMended:
		return "the task files are again as this process works with them"
	}
	return "the task files were saved with faults, everything stays as it was:"
}
