package door

import (
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

// The node that leads the streams goes while clients wait at a door that is connected to another.
func TestAChangeOfLeaderCostsAWaitingClientNothing(t *testing.T) {
	t.Parallel()
	servers := brokertest.Cluster(t)
	w := &wire{t: t, url: servers[0].URL()}
	w.conn = brokertest.Connect(t, w.url)
	brokertest.Ensure(t, w.conn, broker.NewTopology(nil, nil, broker.Sizing{Replicas: 3}))
	leads := func(stream string) string {
		s, err := w.conn.JS.Stream(t.Context(), stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return ""
		}
		return s.CachedInfo().Cluster.Leader
	}
	leader := leads("LLM_RESULTS")
	stays, goes := -1, -1
	for i, s := range servers {
		if s.Name() == leader {
			goes = i
		} else {
			stays = i
		}
	}
	if goes < 0 {
		t.Fatalf("%q leads, which is no node of these", leader)
	}
	w.url = servers[stays].URL()
	w.conn = brokertest.Connect(t, w.url)
	_, served := w.open(brokertest.Connect(t, w.url), often)
	w.admit("a", "", "")
	c := read(t, served.URL+"/v1/jobs/a/events", "")
	c.until("state")
	w.say("a", "", "", said{hop: 3, holder: "h", n: 1, text: "a"})
	if e := c.next(); brief(e) != `draft "a"` {
		t.Errorf("told %+v", e)
	}
	servers[goes].Stop()
	brokertest.Eventually(t, 60*time.Second, "another node leads", func() bool {
		now := leads("LLM_RESULTS")
		return now != "" && now != leader
	})
	want := w.finish("a", "", "", 1)
	e := c.next()
	for e.Type == "draft" || e.Type == "restarted" {
		e = c.next()
	}
	if e.Type != "result" || e.Data != want {
		t.Errorf("told %+v", e)
	}
	late := read(t, served.URL+"/v1/jobs/a/events", "")
	if got := late.until("result"); len(got) != 2 {
		t.Errorf("who comes then is told %q", got)
	}
}
