package door

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"spillway/pkg/job"
)

func FuzzTheIDOfAnEventIsOneOfOursOrElsewhere(f *testing.F) {
	for _, id := range []string{"", "1.3.1.2.holder-1.x", "1.result", "0.result", "1790000000000", "1.2.3.4", "-1.2.3.4.h", "1.2.3.99999999999.h", "a.b.c.d.e", strings.Repeat("1.", 300)} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		p := placeFrom(id)
		switch {
		case id == "" && p != (place{}):
			t.Errorf("no id is %+v", p)
		case id != "" && p != elsewhere() && p != (place{}) && placeFrom(p.id()) != p:
			t.Errorf("%q is %+v, which is given out as %q", id, p, p.id())
		case p != elsewhere() && (p.run < 0 || p.hop < 0 || p.delivery < 0 || p.n < 0):
			t.Errorf("%q is %+v", id, p)
		}
		if run := runHad(id); run < 0 || run > 0 && runHad(resultID(run)) != run {
			t.Errorf("%q had run %d", id, run)
		}
		if at := lastHad(id); at.Before(time.Time{}) {
			t.Errorf("%q was at %s", id, at)
		}
	})
}

// Whatever was kept and wherever the client was: what it shows in the end is what the last try said, or a beginning
// of it, and nothing is told twice.
func FuzzAReplayEndsWithWhatTheLastTrySaid(f *testing.F) {
	f.Add("1.3.1.1.h", []byte{0, 1, 2, 3}, uint8(0))
	f.Add("1.3.1.2.h", []byte{2, 3, 64, 65}, uint8(1))
	f.Add("x", []byte{0, 128, 129, 3}, uint8(2))
	f.Fuzz(func(t *testing.T, had string, stored []byte, kind uint8) {
		at := placeFrom(had)
		r := &replay{had: at, reach: at.n}
		for _, b := range stored {
			d := job.Draft{V: 1, Event: job.DraftPart, Run: 1, Hop: 3 + int(b>>6), Delivery: 1, Holder: "h", N: 1 + int(b&15)}
			switch {
			case b&48 == 48 && kind == 2:
				d.Event = job.DraftRetracted
			case kind == 1:
				d.Partial = []byte("[1]")
			default:
				d.Text = string(rune('a' + b&15))
			}
			r.take(&d)
		}
		shown := "" // of a client that had nothing
		for _, d := range r.missing() {
			if d.Event != job.DraftPart {
				shown = ""
				continue
			}
			if d.Partial == nil && d.Text == "" {
				t.Errorf("a draft that says nothing: %+v", d)
			}
			shown += d.Text
		}
		if at == (place{}) && shown != r.shown.Text {
			t.Errorf("a new client shows %q, all that is known is %q", shown, r.shown.Text)
		}
	})
}

// What a client sends over a socket is nothing to the door, whatever it is.
func FuzzASocketIgnoresWhatClientsSend(f *testing.F) {
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		conn.SetReadLimit(maxFrame)
		_ = ignore(r.Context(), conn)
		_ = conn.CloseNow()
	}))
	f.Cleanup(served.Close)
	f.Add([]byte(`{"cancel":true}`), true)
	f.Add(make([]byte, maxFrame+1), false)
	f.Fuzz(func(t *testing.T, body []byte, text bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, _, err := websocket.Dial(ctx, served.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		kind := websocket.MessageBinary
		if text {
			kind = websocket.MessageText
		}
		if err := conn.Write(ctx, kind, body); err != nil {
			return
		}
		ctx = conn.CloseRead(ctx)
		alive := conn.Ping(ctx) == nil
		if alive != (len(body) <= maxFrame) {
			t.Errorf("%d bytes: alive %v", len(body), alive)
		}
	})
}
