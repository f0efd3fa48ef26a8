package embedded

import (
	"fmt"

	"github.com/rs/zerolog"
)

// logger hands the server's log to zerolog: notices at debug, since a user of `up` has not asked for a
// second program's log. A fatal message goes to the starter instead of ending the process.
type logger struct {
	log   zerolog.Logger
	fatal chan<- string
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf("nats-server: "+format, v...) }

func (l *logger) Warnf(format string, v ...any) { l.log.Debug().Msgf("nats-server: "+format, v...) }

func (l *logger) Errorf(format string, v ...any) { l.log.Error().Msgf("nats-server: "+format, v...) }

func (l *logger) Debugf(format string, v ...any) { l.log.Trace().Msgf("nats-server: "+format, v...) }

func (l *logger) Tracef(format string, v ...any) { l.log.Trace().Msgf("nats-server: "+format, v...) }

func (l *logger) Fatalf(format string, v ...any) {
	why := fmt.Sprintf(format, v...)
	l.log.Error().Msg("nats-server: " + why)
	select {
	case l.fatal <- why:
	default:
	}
}
