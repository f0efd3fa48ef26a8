package door

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/fate"
)

// maxFrame bounds a message from a client, in bytes; none says anything to the door.
const maxFrame = 4 << 10

// jobSocket streams what becomes of a job over a WebSocket.
func (d *Door) jobSocket(w http.ResponseWriter, r *http.Request) {
	c, p := d.entering(w, r)
	if p == nil {
		p = d.upgradable(r)
	}
	if p != nil {
		p.write(w)
		return
	}
	id := r.PathValue("id")
	l := d.hub.watchJob(id)
	defer l.close()
	k, p := d.lookInTurn(r.Context(), c, id)
	if p != nil {
		p.write(w)
		return
	}
	d.socket(w, r, func(ctx context.Context, out teller) error {
		s := &stream{d: d, out: out, l: l, caller: c, state: d.stateFor(r, c)}
		return s.job(ctx, k, lastEventID(r))
	})
}

// sessionSocket streams what becomes of the jobs of a session over a WebSocket.
func (d *Door) sessionSocket(w http.ResponseWriter, r *http.Request) {
	c, p := d.entering(w, r)
	var of session
	if p == nil {
		of, p = sessionFor(c, r)
	}
	if p == nil {
		p = d.upgradable(r)
	}
	if p != nil {
		p.write(w)
		return
	}
	l := d.hub.watchSession(of.tenant, of.name)
	defer l.close()
	d.socket(w, r, func(ctx context.Context, out teller) error {
		s := &stream{d: d, out: out, l: l, caller: c, state: d.stateFor(r, c), session: true}
		return s.jobs(ctx, of, lastEventID(r))
	})
}

// upgradable says what is wrong with a request for a WebSocket; nil: nothing. Browsers let pages of any origin
// make one, so the origin is checked here.
func (d *Door) upgradable(r *http.Request) *Problem {
	wrong := ""
	switch {
	case r.Method == http.MethodHead || r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || !hasToken(r.Header, "Connection", "upgrade"):
		wrong = "this address takes WebSocket connections; for server-sent events use the one that ends in /events"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		wrong = "Sec-WebSocket-Version must be 13"
	case !isKey(r.Header.Get("Sec-WebSocket-Key")):
		wrong = "Sec-WebSocket-Key must be 16 bytes in base64"
	}
	if wrong != "" {
		p := refuse(http.StatusUpgradeRequired, fate.InvalidRequest, wrong)
		p.headers.Set("Upgrade", "websocket")
		p.headers.Set("Connection", "Upgrade")
		p.headers.Set("Sec-WebSocket-Version", "13")
		return p
	}
	origin := r.Header.Get("Origin")
	if origin != "" && !d.isAllowedOrigin(origin) && !isOrigin(origin, r) && !strings.EqualFold(origin, strings.TrimSuffix(d.o.PublicURL, "/")) {
		return forbidden("pages of this origin may not open a WebSocket here; --cors-origin names those that may")
	}
	return nil
}

func isKey(s string) bool {
	key, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(key) == 16
}

func hasToken(h http.Header, name, token string) bool {
	for _, value := range h.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// socket opens a WebSocket, and closes it as what tells ends.
func (d *Door) socket(w http.ResponseWriter, r *http.Request, tells func(context.Context, teller) error) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the origin was checked
	if err != nil {
		d.log.Debug().Err(err).Msg("a WebSocket was not opened")
		return
	}
	conn.SetReadLimit(maxFrame)
	ctx, leave := context.WithCancelCause(r.Context())
	defer leave(nil)
	read := make(chan struct{})
	go func() {
		defer close(read)
		leave(ignore(ctx, conn))
	}()
	err = tells(ctx, &frames{conn: conn, ctx: ctx, cutAfter: d.hub.cutAfter})
	code, why := closing(err)
	if code != 0 {
		_ = conn.Close(code, why) // who left needs no answer
	}
	_ = conn.CloseNow()
	<-read
}

// ignore reads what the client sends, for its control frames alone, until it leaves.
func ignore(ctx context.Context, conn *websocket.Conn) error {
	for {
		_, message, err := conn.Reader(ctx)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return err
		}
	}
}

// closing is how a socket is closed after what ended it; 0: it is gone.
func closing(err error) (websocket.StatusCode, string) {
	switch {
	case err == nil:
		return websocket.StatusNormalClosure, "that was the result"
	case errors.Is(err, errDraining), errors.Is(err, errClosed):
		return websocket.StatusServiceRestart, "come back"
	case errors.Is(err, errUnwelcome):
		return websocket.StatusPolicyViolation, errUnwelcome.Error()
	case errors.Is(err, errSlow):
		return websocket.StatusTryAgainLater, errSlow.Error()
	}
	return 0, ""
}

// frames writes events as JSON messages.
type frames struct {
	conn *websocket.Conn
	ctx  context.Context //nolint:containedctx // the life of the socket, which a write and a ping may not outlive

	cutAfter time.Duration
}

var _ teller = (*frames)(nil)

// frame is an event as a message.
type frame struct {
	Event string `json:"event"`
	ID    string `json:"id,omitempty"`
	Data  raw    `json:"data"`
}

// raw is JSON that is passed on as it is.
type raw = json.RawMessage

func (f *frames) tell(event, id string, data []byte) error {
	body, err := json.Marshal(frame{Event: event, ID: id, Data: data})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.cutAfter)
	defer cancel()
	return f.conn.Write(ctx, websocket.MessageText, body)
}

func (f *frames) sendAway(after time.Duration) error {
	return f.tell(tellsReconnect, "", comeBack(after))
}

// pulse asks for a pong, and waits for it.
func (f *frames) pulse() error {
	ctx, cancel := context.WithTimeout(f.ctx, f.cutAfter)
	defer cancel()
	return f.conn.Ping(ctx)
}
