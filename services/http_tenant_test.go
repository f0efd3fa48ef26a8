package services_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
)

func TestWhatAKeyMayDoAtTheDoor(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.guarded()
	both := []apikey.Scope{apikey.Submit, apikey.Read}
	acme, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	second, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	bolt, _ := f.key(apikey.Spec{Tenant: "bolt", Scopes: both})
	reader, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both[1:]})
	writer, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both[:1]})
	plain, _ := f.key(apikey.Spec{Tenant: "acme", Tasks: []string{"plain"}, Scopes: both})
	revoked, id := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	if _, err := apikey.Revoke(t.Context(), r.conn, id); err != nil {
		t.Fatal(err)
	}
	f.eventually("the door knows that the key is revoked", func() bool { return f.with(revoked).get("/v1/jobs/nobody").status == http.StatusUnauthorized })

	own := f.with(acme).accepted("toy", "acme's own", "")
	done := f.with(acme).get("/v1/jobs/" + own + "?wait=20").result(t)
	if done.Tenant != "acme" || !answersTo(done, "acme's own") {
		t.Fatalf("the tenant is the key's: %+v", done)
	}
	queued := f.with(acme).post("bare", `{"id":"queued-of-acme","input":{"text":"acme's own"},"deadline":"10m"}`).said(t).ID
	const post, body = "/v1/tasks/toy/jobs", `{"input":{"text":"x"}}`
	for name, c := range map[string]struct {
		secret, method, path, body string
		status                     int
		code                       fate.Code
	}{
		"no key":                          {"", "POST", post, body, 401, fate.Unauthorized},
		"no key, a read":                  {"", "GET", "/v1/jobs/" + own, "", 401, fate.Unauthorized},
		"a key of nobody":                 {"sk_0123456789abcdef_nobody", "POST", post, body, 401, fate.Unauthorized},
		"half a key":                      {acme[:len(acme)-1], "POST", post, body, 401, fate.Unauthorized},
		"a revoked key":                   {revoked, "POST", post, body, 401, fate.Unauthorized},
		"a revoked key, a read":           {revoked, "GET", "/v1/jobs/" + own, "", 401, fate.Unauthorized},
		"its own tenant":                  {acme, "POST", post, `{"input":{"text":"x"},"tenant":"acme"}`, 202, ""},
		"another tenant's name":           {acme, "POST", post, `{"input":{"text":"x"},"tenant":"bolt"}`, 403, fate.Forbidden},
		"may only read":                   {reader, "POST", post, body, 403, fate.Forbidden},
		"may only read, and reads":        {reader, "GET", "/v1/jobs/" + own, "", 200, ""},
		"may only read, and cancels":      {reader, "POST", "/v1/jobs/" + own + "/cancel", "", 403, fate.Forbidden},
		"may only submit":                 {writer, "POST", post, body, 202, ""},
		"may only submit, and reads":      {writer, "GET", "/v1/jobs/" + own, "", 403, fate.Forbidden},
		"may only submit, and cancels":    {writer, "POST", "/v1/jobs/" + own + "/cancel", "", 204, ""},
		"another task":                    {plain, "POST", post, body, 403, fate.Forbidden},
		"its own task":                    {plain, "POST", "/v1/tasks/plain/jobs", body, 202, ""},
		"a job of another task":           {plain, "GET", "/v1/jobs/" + own, "", 404, fate.NotFound},
		"a second key of the tenant":      {second, "GET", "/v1/jobs/" + own, "", 200, ""},
		"another tenant's result":         {bolt, "GET", "/v1/jobs/" + own, "", 404, fate.NotFound},
		"another tenant's job":            {bolt, "GET", "/v1/jobs/" + queued, "", 404, fate.NotFound},
		"cancels another tenant's result": {bolt, "POST", "/v1/jobs/" + own + "/cancel", "", 404, fate.NotFound},
		"cancels another tenant's job":    {bolt, "POST", "/v1/jobs/" + queued + "/cancel", "", 404, fate.NotFound},
		"an id that another tenant has":   {bolt, "POST", "/v1/tasks/bare/jobs", `{"id":"queued-of-acme","input":{"text":"acme's own"},"deadline":"10m"}`, 409, fate.IDConflict},
		"an id that looks like a key's":   {bolt, "POST", post, `{"id":"ik_MINE","input":{"text":"x"}}`, 400, fate.InvalidRequest},
	} {
		p := f.with(c.secret).must(c.method, c.path, []byte(c.body))
		if c.code == "" && p.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, p.status, p.body, c.status)
		} else if c.code != "" {
			p.is(t, name, c.status, c.code)
		}
		for _, secret := range []string{acme, bolt, revoked} {
			if bytes.Contains(p.body, []byte(secret)) {
				t.Errorf("%s: the answer has the key in it: %s", name, p.body)
			}
		}
		if c.status == 401 && !strings.HasPrefix(p.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: WWW-Authenticate %q", name, p.header.Get("WWW-Authenticate"))
		}
	}
	unknown := f.with(bolt).get("/v1/jobs/" + strings.Repeat("z", len(own)))
	foreign := f.with(bolt).get("/v1/jobs/" + own)
	if want := strings.ReplaceAll(string(unknown.body), strings.Repeat("z", len(own)), own); string(foreign.body) != want {
		t.Errorf("another tenant's job can be told from none:\n%s\n%s", foreign.body, unknown.body)
	}
}

func TestAKeyOfIdempotencyIsItsTenantsOwn(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.guarded()
	both := []apikey.Scope{apikey.Submit, apikey.Read}
	acme, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	again, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	bolt, _ := f.key(apikey.Spec{Tenant: "bolt", Scopes: both})
	const body = `{"input":{"text":"one order"}}`
	first := f.with(acme).post("toy", body, "Idempotency-Key", "order 1").said(t)
	same := f.with(again).post("toy", body, "Idempotency-Key", "order 1").said(t)
	other := f.with(bolt).post("toy", body, "Idempotency-Key", "order 1").said(t)
	if first.Status != "acknowledged" || same.Status != "duplicate" || same.ID != first.ID || other.Status != "acknowledged" || other.ID == first.ID {
		t.Errorf("%+v\n%+v\n%+v", first, same, other)
	}
	if got := f.with(bolt).get("/v1/jobs/" + other.ID + "?wait=20").result(t); got.Tenant != "bolt" {
		t.Errorf("%+v", got)
	}
}

func TestATokenIsForReadingItsOwnJob(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.guarded()
	both := []apikey.Scope{apikey.Submit, apikey.Read}
	acme, id := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	writer, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both[:1]})
	one := f.with(acme).post("toy", `{"input":{"text":"one"},"session":"a/b"}`).said(t)
	other := f.with(acme).post("toy", `{"input":{"text":"other"}}`).said(t)
	token := tokenOf(t, one.EventsURL)
	if token == "" || strings.Contains(one.PollURL, "token") || tokenOf(t, one.SessionEventsURL) == token || !strings.Contains(one.SessionEventsURL, "/v1/sessions/a%2Fb/events?token=") {
		t.Fatalf("%+v", one)
	}
	if got := f.get("/v1/jobs/" + one.ID + "?wait=20&token=" + token).result(t); !answersTo(got, "one") {
		t.Errorf("%+v", got)
	}
	with := "?token=" + token
	f.get("/v1/jobs/"+other.ID+with).is(t, "another job's token", 404, fate.NotFound)
	f.get("/v1/jobs/"+one.ID+"?token="+tokenOf(t, one.SessionEventsURL)).is(t, "a session's token", 404, fate.NotFound)
	f.get("/v1/jobs/"+one.ID+with+"x").is(t, "a forged token", 401, fate.Unauthorized)
	f.must("POST", "/v1/jobs/"+one.ID+"/cancel"+with, nil).is(t, "a cancel by token", 401, fate.Unauthorized)
	f.must("POST", "/v1/tasks/toy/jobs"+with, []byte(`{"input":{"text":"x"}}`)).is(t, "a post by token", 401, fate.Unauthorized)
	if s := f.with(writer).post("toy", `{"input":{"text":"one"}}`).said(t); strings.Contains(s.EventsURL, "token") {
		t.Errorf("a key that may not read hands out a token: %s", s.EventsURL)
	}
	if _, err := apikey.Revoke(t.Context(), r.conn, id); err != nil {
		t.Fatal(err)
	}
	f.eventually("the token ends with its key", func() bool { return f.get("/v1/jobs/"+one.ID+with).status == http.StatusUnauthorized })
}

func tokenOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("token")
}

func TestAKeyIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.guarded()
	// One in an hour, so that the time the test takes does not count.
	slow, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit, apikey.Read}, Rate: 1.0 / 3600, Burst: 40})
	free, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit, apikey.Read}})
	var allowed []string
	for range 45 {
		p := f.with(slow).get("/v1/jobs/nobody")
		if p.header.Get("RateLimit-Limit") != "40" || p.header.Get("RateLimit-Reset") == "" {
			t.Fatalf("%v", p.header)
		}
		if p.status != http.StatusTooManyRequests {
			allowed = append(allowed, p.header.Get("RateLimit-Remaining"))
			continue
		}
		p.is(t, "too fast", 429, fate.RateLimited)
		if wait, err := time.ParseDuration(p.header.Get("Retry-After") + "s"); err != nil || wait < 59*time.Minute || wait > time.Hour || p.header.Get("RateLimit-Remaining") != "0" {
			t.Errorf("%v", p.header)
		}
	}
	// The first one of the burst was the look whether the door knows the key.
	if n := len(allowed); n == 0 || n > 39 || allowed[n-1] != "0" || n > 1 && allowed[n-2] != "1" {
		t.Errorf("%d were allowed: %v", n, allowed)
	}
	f.with(slow).post("toy", `{"input":{"text":"x"}}`).is(t, "a post", 429, fate.RateLimited)
	if p := f.with(free).get("/v1/jobs/nobody"); p.status != http.StatusNotFound || p.header.Get("RateLimit-Limit") != "" {
		t.Errorf("another key pays for it: %d %v", p.status, p.header)
	}
}
