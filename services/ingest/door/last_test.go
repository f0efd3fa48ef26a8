package door

import "testing"

func TestTheLastProgressIsThatOfTheLatestHopInWhateverOrderItCame(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	l := h.watchJob("a")
	for _, body := range []string{
		`{"id":"a","task":"toy","run":1,"hop":9,"to":"validator"}`, `{"id":"a","task":"toy","run":1,"hop":10,"to":"result-writer"}`,
		`{"id":"a","task":"toy","run":1,"hop":2,"to":"inference"}`,
	} {
		w.tell("llm.progress.toy.a", nil, body)
	}
	hearsUntil(t, l, `{"id":"a","task":"toy","run":1,"hop":2,"to":"inference"}`)
	if p, ok := h.lastProgress("a"); !ok || p.To != "result-writer" {
		t.Errorf("%v %+v", ok, p)
	}
	w.tell("llm.progress.toy.a", nil, `{"id":"a","task":"toy","run":2,"hop":1,"to":"context-builder"}`)
	hears(t, l)
	if p, ok := h.lastProgress("a"); !ok || p.To != "context-builder" || p.Run != 2 {
		t.Errorf("a later run: %v %+v", ok, p)
	}
}
