package door

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
)

// keyed is a door that asks for keys, and one of them with its secret.
func (w *wire) keyed(s apikey.Spec) (d *Door, url, secret string, k apikey.Key) {
	w.t.Helper()
	ring := w.ring()
	secret, k, err := apikey.Create(w.t.Context(), w.conn, s)
	if err != nil {
		w.t.Fatal(err)
	}
	brokertest.Eventually(w.t, 10*time.Second, "the ring knows the key", func() bool { _, err := ring.Key(k.ID); return err == nil })
	d, served := w.open(w.conn, func(d *Door) { d.o.Keys = ring })
	return d, served.URL, secret, k
}

// knock sends a GET, with a key unless secret is "".
func knock(t *testing.T, url, secret string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestTokensAreHeldToTheRateOfTheirKeyAndTakeNothingFromIt(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	// One in an hour, so that the time the test takes does not count.
	d, url, secret, k := w.keyed(apikey.Spec{Name: "slow", Tenant: "acme", Scopes: []apikey.Scope{apikey.Read}, Rate: 1.0 / 3600, Burst: 3})
	w.admit("a", "acme", "s")
	w.admit("b", "acme", "s")
	address := func(id string) string {
		token, err := d.o.Keys.Sign(apikey.Grant{Tenant: "acme", Job: id, KeyID: k.ID, Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return url + "/v1/jobs/" + id + "?token=" + token
	}
	for n, row := range []struct {
		id   string
		want int
	}{{"a", 202}, {"b", 202}, {"a", 202}, {"b", 429}, {"a", 429}} {
		if resp := knock(t, address(row.id), ""); resp.StatusCode != row.want || resp.Header.Get("RateLimit-Limit") != "3" || row.want == 429 && resp.Header.Get("Retry-After") == "" {
			t.Errorf("request %d: %d, want %d: %v", n, resp.StatusCode, row.want, resp.Header)
		}
	}
	isSentAway(t, strings.Replace(address("a"), "/a?", "/a/events?", 1))
	if resp := knock(t, url+"/v1/jobs/a", secret); resp.StatusCode != http.StatusAccepted || resp.Header.Get("RateLimit-Remaining") != "2" {
		t.Errorf("the key pays for its tokens: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestWhatIsUnderWayForAKeyIsBounded(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, url, secret, k := w.keyed(apikey.Spec{Name: "many", Tenant: "acme", Scopes: []apikey.Scope{apikey.Read}})
	w.admit("a", "acme", "s")
	token, err := d.o.Keys.Sign(apikey.Grant{Tenant: "acme", Job: "a", KeyID: k.ID, Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	streamed := read(t, url+"/v1/jobs/a/events?token="+token, "")
	streamed.until("state")
	// As many as the README says, with the stream.
	for range 9_999 {
		if !d.rates.sit(k.ID) {
			t.Fatal("there is no seat")
		}
	}
	for _, row := range []struct{ path, secret string }{{"/v1/jobs/a", secret}, {"/v1/jobs/a/events", secret}, {"/v1/jobs/a?token=" + token, ""}, {"/v1/jobs/a?wait=1", secret}} {
		if resp := knock(t, url+row.path, row.secret); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%.20s: %d %v", row.path, resp.StatusCode, resp.Header)
		}
	}
	isSentAway(t, url+"/v1/jobs/a/events?token="+token)
	streamed.leave()
	brokertest.Eventually(t, 20*time.Second, "the seat is free", func() bool { return knock(t, url+"/v1/jobs/a", secret).StatusCode == http.StatusAccepted })
}
