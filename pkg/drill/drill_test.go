package drill_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/drill"
)

func TestTheDrillFindsEachWayInWhichAPromiseIsBroken(t *testing.T) {
	t.Parallel()
	s := setup(t, 60)
	neighbour := ""
	s.pipe(func(a asked) {
		own := string(a.Input)
		switch a.Number {
		case 10: // lost
		case 11, 12:
			s.result(a.ID, a.Number, own, "succeeded", "")
			s.result(a.ID, a.Number, own, "succeeded", "")
		case 13:
			s.result(a.ID, a.Number, neighbour, "succeeded", "")
		case 14:
			s.result(a.ID, a.Number-1, own, "succeeded", "")
		case 15:
			s.result(a.ID, a.Number, own, "succeeded", `,"late":true`)
		case 16:
			time.AfterFunc(1500*time.Millisecond, func() { s.result(a.ID, a.Number, own, "succeeded", "") })
		case 17:
			s.result(a.ID, a.Number, own, "failed", `,"error":{"code":"internal","message":"it broke"}`)
		case 18:
			s.result(a.ID, a.Number, own, "rejected", "")
		default:
			s.result(a.ID, a.Number, own, "succeeded", "")
		}
		neighbour = own
	})
	r, err := s.drill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := drill.Endings{Acknowledged: 60, Live: 57, Failed: 1, Rejected: 1, Lost: 1, Late: 2, Foreign: 2, Repeated: 2}
	if r.All != want || r.OK() || r.OwnBy != "nonce" {
		t.Errorf("got  %+v\nwant %+v\n%v", r.All, want, r.Examples)
	}
	if got := strings.Join(r.Faults(), "; "); got != "1 lost; 2 late; 2 given another's answer; 2 answered twice; 1 without a live answer have no dead letter to replay (keep_degraded)" {
		t.Error(got)
	}
	if len(r.Examples) == 0 || r.Replay.Owed != 1 || r.Replay.NotKept != 1 {
		t.Errorf("%v, %+v", r.Examples, r.Replay)
	}
	if got := s.provider.Counts().Calls; got != 0 {
		t.Errorf("the provider was not reset: it counts %d calls", got)
	}
}

func TestANightOfWhichNothingIsAcknowledgedBreaksThePromise(t *testing.T) {
	t.Parallel()
	s := setup(t, 30)
	full := make(chan struct{}) // closed once the stream of requests takes nothing more
	_, err := s.conn.NC.Subscribe(broker.AllRequests, func(m *nats.Msg) {
		var a asked
		if err := json.Unmarshal(m.Data, &a); err != nil || a.Metadata.Drill >= 0 {
			return
		}
		stream, err := s.conn.JS.Stream(t.Context(), broker.RequestsStream)
		if err != nil {
			t.Error(err)
			return
		}
		config := stream.CachedInfo().Config
		config.MaxMsgs = 1
		if _, err := s.conn.JS.UpdateStream(t.Context(), config); err != nil {
			t.Error(err)
		}
		close(full)
		s.call(string(a.Input))
	})
	if err != nil {
		t.Fatal(err)
	}
	r, faults := s.faults()
	<-full
	if r.All.Acknowledged != 0 || r.NotTaken == "" || faults != "no request was acknowledged; the provider failed no call, so that no outage was rehearsed" {
		t.Errorf("%d acknowledged, %q, %q", r.All.Acknowledged, r.NotTaken, faults)
	}
}

func TestANightOfWhichAllIsRejectedBreaksThePromise(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.pipe(func(a asked) {
		s.result(a.ID, a.Number, string(a.Input), "rejected", `,"error":{"code":"input_invalid","message":"x"}`)
	})
	if r, faults := s.faults(); r.All.Rejected != 20 || faults != "no request was answered" {
		t.Errorf("%+v, %q", r.All, faults)
	}
}

func TestAnAnswerWithoutANonceIsNotItsOwnWhereOthersHaveOne(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.pipe(func(a asked) {
		if a.Number != 7 {
			s.result(a.ID, a.Number, string(a.Input), "succeeded", "")
			return
		}
		body := fmt.Sprintf(`{"id":%q,"status":"succeeded","source":"model","output":{"says":"what"},"metadata":{"drill":7}}`, a.ID)
		if err := s.conn.NC.Publish(broker.WriteSubject("toy", a.ID), []byte(body)); err != nil {
			t.Error(err)
		}
	})
	if r, faults := s.faults(); r.All.Foreign != 1 || faults != "1 given another's answer" {
		t.Errorf("%+v, %q", r.All, faults)
	}
}

// A subscriber may miss a result; the stream has it.
func TestAResultThatWasNotHeardIsReadFromTheStream(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	stream, err := s.conn.JS.Stream(t.Context(), broker.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.RePublish = nil
	if _, err := s.conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.pipe(func(a asked) { s.result(a.ID, a.Number, string(a.Input), "succeeded", "") })
	r, err := s.drill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (drill.Endings{Acknowledged: 20, Live: 20}); r.All != want || !r.OK() {
		t.Errorf("got %+v, %v", r.All, r.Examples)
	}
}

func TestWithoutRoomForANonceAnswersAreKnownByTheirMetadataAndTheReportSaysSo(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.pipe(func(a asked) {
		body := fmt.Sprintf(`{"id":%q,"status":"succeeded","source":"model","output":{"n":1},"metadata":{"drill":%d}}`, a.ID, a.Number)
		if err := s.conn.NC.Publish(broker.WriteSubject("toy", a.ID), []byte(body)); err != nil {
			t.Error(err)
		}
	})
	r, err := s.drill(t.Context())
	if err != nil || r.OwnBy != "metadata" || !r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
}
