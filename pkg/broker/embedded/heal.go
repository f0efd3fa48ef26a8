package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

const (
	// healEvery is how often it is looked whether a stream has stopped to store, and the first pause after a
	// start that did not help. The pause doubles, up to healAtMost.
	healEvery  = time.Second
	healAtMost = time.Minute
	// healRoom is what the disk must take again, in bytes.
	healRoom = 4 << 20
)

// heal lets JetStream store again once the disk does. A nats-server whose disk was full refuses to write to the
// streams that met the fault until it is started again, though there is room: here JetStream alone is. Nothing
// is lost, for what was not written was not acknowledged.
//
// Other faults of a disk are only said: what starts anew has nothing in memory any more, and helps with none.
func heal(s *server.Server, store string, stop <-chan struct{}, log zerolog.Logger) {
	h := newHealer(s, store, log)
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	for s.Running() { // a server that was shut down stays so
		select {
		case <-stop:
			return
		case now := <-tick.C:
			h.look(now)
		}
	}
}

// healer knows what it has seen of the disk.
type healer struct {
	running func() bool
	// fault is why something cannot be stored; "": nothing is known against it.
	fault   func() string
	room    func() error
	restart func() error
	log     zerolog.Logger

	// full: the disk was seen full since all was well. said: so was a fault that is none of a full disk.
	full, said bool
	pause      time.Duration
	next       time.Time // no start before it
}

func newHealer(s *server.Server, store string, log zerolog.Logger) *healer {
	var config server.JetStreamConfig
	if own := s.JetStreamConfig(); own != nil {
		config = *own
	}
	config.StoreDir = store // the server adds a folder of its own
	return &healer{
		running: s.Running,
		fault:   func() string { return writeFault(s) },
		room:    func() error { return hasRoom(store) },
		restart: func() error {
			again := config
			return errors.Join(s.ShutdownJetStream(), s.EnableJetStream(&again))
		},
		log: log,
	}
}

// writeFault is the server's word on what it cannot write.
func writeFault(s *server.Server) string {
	if !s.JetStreamEnabled() {
		return "JetStream is disabled"
	}
	if fault := s.Healthz(&server.HealthzOptions{}).Error; strings.Contains(fault, "write error") {
		return fault
	}
	return ""
}

// look starts JetStream anew if a full disk has stopped it and takes writes again.
func (h *healer) look(now time.Time) {
	if !h.running() {
		return
	}
	fault := h.fault()
	if fault == "" {
		h.full, h.said = false, false
		return
	}
	if now.Before(h.next) {
		return
	}
	if err := h.room(); err != nil {
		if !h.full {
			h.log.Error().Err(err).Msg("nothing can be stored: no request is acknowledged until the disk has room again")
		}
		h.full = true
		return
	}
	// The server may have met the fault in a moment in which nobody looked.
	if h.full = h.full || strings.Contains(fault, "no space left"); !h.full {
		if !h.said {
			h.log.Error().Str("fault", fault).Msg("nothing can be stored, though the disk has room: mend the store, then start the server anew")
		}
		h.said = true
		return
	}
	h.startAnew(now, fault)
}

func (h *healer) startAnew(now time.Time, fault string) {
	// A disk that fills up again at once is no reason to start every second.
	if now.Sub(h.next) > healAtMost {
		h.pause = 0
	}
	h.pause = min(max(2*h.pause, healEvery), healAtMost)
	h.next = now.Add(h.pause)
	if !h.running() {
		return
	}
	h.log.Warn().Str("fault", fault).Msg("the disk takes writes again, starting JetStream anew")
	if err := h.restart(); err != nil {
		h.log.Error().Err(err).Dur("again_in", h.pause).Msg("JetStream cannot be started again, trying on")
	}
}

// hasRoom writes a file that is removed first, so that it is gone however this ends.
func hasRoom(store string) error {
	path := filepath.Join(store, "room")
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("try the disk: %w", err)
	}
	err = os.Remove(path)
	if err == nil {
		_, err = f.Write(make([]byte, healRoom))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("try the disk: %w", err)
	}
	return nil
}
