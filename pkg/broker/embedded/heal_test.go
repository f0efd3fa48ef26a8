package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// patient is a healer of a server that does as the test says, and the seconds at which it was started anew.
type patient struct {
	*healer
	alive  bool
	ails   string
	full   error
	starts []int
	log    bytes.Buffer
}

const noSpace = "JetStream stream '$G > A' write error: write 1.blk: no space left on device"

func newPatient() *patient {
	p := &patient{alive: true}
	p.healer = &healer{
		running: func() bool { return p.alive }, fault: func() string { return p.ails }, room: func() error { return p.full },
		log: zerolog.New(&p.log),
	}
	return p
}

// watch looks once a second.
func (p *patient) watch(from, to int) {
	for second := from; second < to; second++ {
		p.restart = func() error {
			p.starts = append(p.starts, second)
			return nil
		}
		p.look(time.Unix(1_000_000+int64(second), 0))
	}
}

func TestAFullDiskIsHealedOnceItHasRoom(t *testing.T) {
	t.Parallel()
	p := newPatient()
	p.ails, p.full = "JetStream stream '$G > A' write error: it stopped", errors.New("full")
	p.watch(0, 30)
	if len(p.starts) > 0 || strings.Count(p.log.String(), "until the disk has room") != 1 {
		t.Errorf("while it is full: starts %v, said %s", p.starts, &p.log)
	}
	p.full = nil
	p.watch(30, 31)
	if p.ails = ""; !slices.Equal(p.starts, []int{30}) {
		t.Errorf("started at %v", p.starts)
	}
	p.watch(31, 100)
	if len(p.starts) != 1 {
		t.Errorf("a healthy server was started anew: %v", p.starts)
	}
}

func TestADiskThatWasFullForAMomentIsKnownByTheFault(t *testing.T) {
	t.Parallel()
	p := newPatient()
	p.ails = noSpace
	p.watch(0, 1)
	if len(p.starts) != 1 {
		t.Errorf("started %d times", len(p.starts))
	}
}

func TestAWriteErrorOfAnotherSortIsSaidOnceAndNothingIsStarted(t *testing.T) {
	t.Parallel()
	p := newPatient()
	p.ails = "JetStream stream '$G > A' write error: 1.blk: not a directory"
	p.watch(0, 300)
	if len(p.starts) > 0 || strings.Count(p.log.String(), "not a directory") != 1 {
		t.Errorf("starts %v, said %s", p.starts, &p.log)
	}
}

func TestStartsThatDoNotHelpBecomeRare(t *testing.T) {
	t.Parallel()
	p := newPatient()
	p.ails = noSpace
	p.watch(0, 300)
	if want := []int{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}; !slices.Equal(p.starts, want) {
		t.Errorf("started at %v, want %v", p.starts, want)
	}
	p.ails = ""
	p.watch(300, 600)
	p.ails, p.starts = noSpace, nil
	p.watch(600, 604)
	if want := []int{600, 601, 603}; !slices.Equal(p.starts, want) {
		t.Errorf("after minutes in health started at %v, want %v", p.starts, want)
	}
}

func TestAServerThatWasShutDownStaysSo(t *testing.T) {
	t.Parallel()
	s, err := Start(Options{Port: -1, Store: t.TempDir(), Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	h := newHealer(s.Server, t.TempDir(), zerolog.Nop())
	h.full = true
	s.Shutdown()
	h.look(time.Now())
	heal(s.Server, t.TempDir(), nil, zerolog.Nop()) // returns by itself
	if s.JetStreamEnabled() {
		t.Error("JetStream runs on a server that was shut down")
	}
}

func TestNothingIsLeftOfTryingTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := hasRoom(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if err := hasRoom(fmt.Sprint(dir, "/nowhere")); err == nil {
		t.Error("there is room where nothing is")
	}
}
