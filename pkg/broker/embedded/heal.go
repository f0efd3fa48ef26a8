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
	// healEvery is how often it is looked whether a stream has stopped to store.
	healEvery = time.Second
	// healRoom is what the disk must take again, in bytes.
	healRoom = 4 << 20
)

// heal lets JetStream store again once the disk does. A nats-server whose disk was full refuses to write to the
// streams that met the fault until it is started again, though there is room: here JetStream alone is. Nothing
// is lost, for what was not written was not acknowledged.
func heal(s *server.Server, store string, stop <-chan struct{}, log zerolog.Logger) {
	config := *s.JetStreamConfig()
	config.StoreDir = store // the server adds a folder of its own
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	for full := false; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		fault := s.Healthz(&server.HealthzOptions{}).Error
		if s.JetStreamEnabled() && !strings.Contains(fault, "write error") {
			continue
		}
		if err := hasRoom(store); err != nil {
			if !full {
				log.Error().Err(err).Msg("nothing can be stored: no request is acknowledged until the disk has room again")
			}
			full = true
			continue
		}
		log.Warn().Str("fault", fault).Msg("the disk takes writes again, starting JetStream anew")
		full = false
		again := config
		if err := errors.Join(s.ShutdownJetStream(), s.EnableJetStream(&again)); err != nil {
			log.Error().Err(err).Msg("JetStream cannot be started again, trying on")
		}
	}
}

// hasRoom writes a file and removes it.
func hasRoom(store string) error {
	path := filepath.Join(store, "room")
	defer func() { _ = os.Remove(path) }() // gone already when it could not be made
	if err := os.WriteFile(path, make([]byte, healRoom), 0o600); err != nil {
		return fmt.Errorf("try the disk: %w", err)
	}
	return nil
}
