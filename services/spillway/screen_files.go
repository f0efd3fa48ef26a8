package main

import (
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
	s.print(e)
}

// show begins to show.
func (s *filesScreen) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.before {
		s.print(e)
	}
	s.shown, s.before = true, nil
}

func (s *filesScreen) print(e filesEvent) {
	if s.g.cli.JSON {
		e.Event = "files-" + e.Event
		_ = s.g.printJSON(e) // a screen that is gone shows nothing
		return
	}
	switch e.Event {
	case filesLive:
		s.g.printf("           %s: version %s is live now\n", e.Task, e.Version)
	case filesLeft:
		live := "taken out"
		if e.Record.Live != "" {
			live = e.Record.Live + " is live"
		}
		s.g.printf("           %s: the files here are version %s, %s since %s by %s; `spillway task push %s` makes %s live\n",
			e.Task, e.Version, live, e.Record.Since.Local().Format(time.DateTime), e.Record.By, e.Task, e.Version)
	case filesOut:
		s.g.printf("           %s: taken out, it is in no file any more\n", e.Task)
	case filesMended:
		s.g.printf("           the task files are again as they were\n")
	default:
		s.g.printf("           the task files were saved with faults, everything stays as it was:\n")
		for _, fault := range e.Faults {
			s.g.printf("             %s\n", fault)
		}
	}
}
