package door

// This file stands in for hub.go, sse.go and socket.go.

import (
	"context"
	"net/http"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/stage"
)

type kind int

const (
	resultEvent kind = iota + 1
	progressEvent
	deltaEvent
)

type event struct {
	kind kind
	msg  *nats.Msg
}

type hub struct{ conn *broker.Conn }

type listener struct{ sub *nats.Subscription }

func newHub(_ context.Context, conn *broker.Conn, _ zerolog.Logger) (*hub, error) {
	return &hub{conn}, nil
}
func (h *hub) close() {}

func (h *hub) watchJob(id string) *listener {
	sub, _ := h.conn.NC.SubscribeSync(broker.AnyTaskResult(id))
	_ = h.conn.NC.Flush()
	return &listener{sub}
}
func (h *hub) lastProgress(string) (stage.Progress, bool) { return stage.Progress{}, false }
func (l *listener) close()                                { _ = l.sub.Unsubscribe() }
func (l *listener) lagged() bool                          { return false }
func (l *listener) next(ctx context.Context) ([]event, error) {
	m, err := l.sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, err
	}
	return []event{{resultEvent, m}}, nil
}

func (d *Door) jobEvents(w http.ResponseWriter, _ *http.Request)     { notFound("").write(w) }
func (d *Door) jobSocket(w http.ResponseWriter, _ *http.Request)     { notFound("").write(w) }
func (d *Door) sessionEvents(w http.ResponseWriter, _ *http.Request) { notFound("").write(w) }
func (d *Door) sessionSocket(w http.ResponseWriter, _ *http.Request) { notFound("").write(w) }
