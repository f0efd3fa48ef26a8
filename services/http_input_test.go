package services_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
)

func TestBadInputIsAnsweredWithAProblemThatNamesThePlace(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	const toy, good = "/v1/tasks/toy/jobs", `{"input":{"text":"x"}}`
	for name, c := range map[string]struct {
		path, body string
		headers    []string
		status     int
		code       fate.Code
		pointer    string // "-": none
		reasons    int
	}{
		"not JSON":               {toy, `{"input":`, nil, 400, fate.BadJSON, "/input", 1},
		"nothing":                {toy, ``, nil, 400, fate.BadJSON, "", 1},
		"no object":              {toy, `[1]`, nil, 400, fate.BadJSON, "", 1},
		"two values":             {toy, good + good, nil, 400, fate.BadJSON, "", 1},
		"a key twice":            {toy, `{"input":{"text":"x","text":"y"}}`, nil, 400, fate.BadJSON, "/input/text", 1},
		"not UTF-8":              {toy, "{\"input\":{\"text\":\"\xff\"}}", nil, 400, fate.BadJSON, "/input/text", 1},
		"too deep":               {toy, `{"input":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, nil, 400, fate.BadJSON, "-", 1},
		"no input":               {toy, `{"session":"s"}`, nil, 400, fate.InvalidRequest, "/input", 1},
		"off schema":             {toy, `{"input":{"text":7}}`, nil, 400, fate.InputInvalid, "/input/text", 1},
		"all faults at once":     {toy, `{"input":{"text":7},"a~/b":1,"session":"no good","deadline":"yesterday"}`, nil, 400, fate.UnknownField, "/a~0~1b", 4},
		"an unknown field":       {toy, `{"input":{"text":"x"},"priority":1}`, nil, 400, fate.UnknownField, "/priority", 1},
		"a bad id":               {toy, `{"input":{"text":"x"},"id":"a b"}`, nil, 400, fate.InvalidRequest, "/id", 1},
		"a bad lane":             {toy, `{"input":{"text":"x"},"lane":"fast"}`, nil, 400, fate.InvalidRequest, "/lane", 1},
		"a long deadline":        {toy, `{"input":{"text":"x"},"deadline":"1000h"}`, nil, 400, fate.InvalidRequest, "/deadline", 1},
		"a webhook":              {toy, `{"input":{"text":"x"},"webhook":{"url":"https://x.example"}}`, nil, 400, fate.InvalidRequest, "/webhook", 1},
		"a number where a flag":  {toy, `{"input":{"text":"x"},"stream":1}`, nil, 400, fate.InvalidRequest, "/stream", 1},
		"an unknown task":        {"/v1/tasks/nothing/jobs", good, nil, 404, fate.UnknownTask, "", 1},
		"a task of many tokens":  {"/v1/tasks/a.b.%3E/jobs", good, nil, 404, fate.UnknownTask, "", 1},
		"too large":              {toy, `{"input":{"text":"` + strings.Repeat("x", 256<<10) + `"}}`, nil, 413, fate.TooLarge, "", 0},
		"no content type":        {toy, good, []string{"Content-Type", ""}, 415, fate.UnsupportedMedia, "-", 0},
		"a form":                 {toy, good, []string{"Content-Type", "", "Content-Type", "application/x-www-form-urlencoded"}, 415, fate.UnsupportedMedia, "-", 0},
		"a body that is zipped":  {toy, "\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, fate.UnsupportedMedia, "-", 0},
		"a key of no length":     {toy, good, []string{"Idempotency-Key", "\t"}, 400, fate.InvalidRequest, "-", 0},
		"a key that is too long": {toy, good, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, fate.InvalidRequest, "-", 0},
		"a key that is not text": {toy, good, []string{"Idempotency-Key", "ключ"}, 400, fate.InvalidRequest, "-", 0},
		"two keys":               {toy, good, []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, fate.InvalidRequest, "-", 0},
	} {
		p := f.must(http.MethodPost, c.path, []byte(c.body), c.headers...)
		s := p.is(t, name, c.status, c.code)
		if c.pointer == "-" != (s.Pointer == nil) && name != "too deep" || s.Pointer != nil && c.pointer != "-" && *s.Pointer != c.pointer || len(s.Reasons) != c.reasons {
			t.Errorf("%s: %s", name, p.body)
		}
		if header := "Content-Type"; c.status == 415 {
			if name == "a body that is zipped" {
				header = "Content-Encoding"
			}
			if s.Header != header {
				t.Errorf("%s: it names %q, not %q", name, s.Header, header)
			}
		}
		if strings.Contains(name, "key") && len(c.headers) > 0 && s.Header != "Idempotency-Key" {
			t.Errorf("%s: it names no header: %s", name, p.body)
		}
	}
	s, err := r.conn.JS.Stream(t.Context(), "LLM_REQUESTS")
	if err != nil || s.CachedInfo().State.LastSeq != 0 {
		t.Errorf("something of it was stored: %v %+v", err, s.CachedInfo().State)
	}
	for _, id := range []string{"nobody", "a.b", "%3E", "*", strings.Repeat("x", 65), "%00"} {
		f.get("/v1/jobs/"+id).is(t, id, 404, fate.NotFound)
	}
	for _, wait := range []string{"soon", "-1", "NaN", ""} {
		if s := f.get("/v1/jobs/nobody?wait="+wait).is(t, "wait="+wait, 400, fate.InvalidRequest); s.Parameter != "wait" {
			t.Errorf("wait=%s: it names no parameter", wait)
		}
	}
	f.get("/v1/nothing").is(t, "no route", 404, fate.NoSuchRoute)
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{"//v1/jobs/x", "/v1//jobs/x", "/v1/jobs/./x", "/v1/tasks/../jobs/x", "/v1/jobs/x/", "//v1/jobs/x/events"} {
		p := f.get(path + "?token=secret")
		p.is(t, path, 404, fate.NoSuchRoute)
		if strings.Contains(string(p.body)+p.header.Get("Location"), "secret") {
			t.Errorf("%s: the token is told again: %v %s", path, p.header, p.body)
		}
	}
	if p := f.must(http.MethodDelete, "/v1/jobs/x", nil); p.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow: %s", p.header.Get("Allow"))
	} else {
		p.is(t, "DELETE", 405, fate.MethodNotAllowed)
	}
}

// The second door stands for the process after a deploy that tightened one task and removed another.
func TestARepeatedRequestIsRecognisedThoughItWouldBeRefusedToday(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.guarded()
	both := []apikey.Scope{apikey.Submit, apikey.Read}
	acme, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	bolt, _ := f.key(apikey.Spec{Tenant: "bolt", Scopes: both})
	tasks := *r.tasks
	r.tasks = &tasks
	tasks.Tasks = maps.Clone(tasks.Tasks)
	const body = `{"id":"mine","input":{"text":"taken before"}}`
	ids := map[string]string{}
	for _, name := range []string{"toy", "bare"} {
		ids[name] = f.with(acme).post(name, `{"input":{"text":"taken before"}}`, "Idempotency-Key", "one").said(t).ID
	}
	if s := f.with(acme).post("plain", body).said(t); s.Status != "acknowledged" {
		t.Fatalf("%+v", s)
	}
	tight := *tasks.Tasks["toy"]
	tight.MaxInputBytes = 10
	tasks.Tasks["toy"] = &tight
	delete(tasks.Tasks, "bare")
	delete(tasks.Tasks, "plain")
	after := r.guarded()
	for _, name := range []string{"toy", "bare"} {
		p := after.with(acme).post(name, `{"input":{"text":"taken before"}}`, "Idempotency-Key", "one")
		if s := p.said(t); p.status != http.StatusAccepted || s.Status != "duplicate" || s.ID != ids[name] {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
	}
	if p := after.with(acme).post("plain", body); p.status != http.StatusAccepted {
		t.Errorf("by its own id: %d %s", p.status, p.body)
	}
	after.with(acme).post("bare", `{"input":{"text":"another"}}`, "Idempotency-Key", "one").is(t, "another body", 404, fate.UnknownTask)
	after.with(acme).post("bare", `{"input":{"text":"taken before"}}`, "Idempotency-Key", "two").is(t, "another key", 404, fate.UnknownTask)
	after.with(acme).post("toy", `{"input":{"text":"new"}}`).is(t, "a new one", 413, fate.TooLarge)
	// The body that was stored, tenant and all, is refused to others as before.
	after.with(bolt).post("plain", `{"tenant":"acme","id":"mine","input":{"text":"taken before"}}`).is(t, "another tenant's", 404, fate.UnknownTask)
}

func TestTheMostThatATenantMaySendIsSaidAsItSendsIt(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	tasks := *r.tasks
	r.tasks = &tasks
	tasks.Tasks = maps.Clone(tasks.Tasks)
	small := *tasks.Tasks["bare"]
	small.MaxInputBytes = 60
	tasks.Tasks["bare"] = &small
	f := r.guarded()
	acme, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit}})
	body := func(size int) string {
		return `{"input":{"text":"` + strings.Repeat("x", size-len(`{"input":{"text":""}}`)) + `"}}`
	}
	p := f.with(acme).post("bare", body(60))
	p.is(t, "too large with its tenant", 413, fate.TooLarge)
	found := regexp.MustCompile(`has 60 bytes, (\d+) is the most`).FindSubmatch(p.body)
	if found == nil {
		t.Fatalf("%s", p.body)
	}
	most, err := strconv.Atoi(string(found[1]))
	if err != nil || most >= 60 {
		t.Fatalf("%d, %v", most, err)
	}
	if p := f.with(acme).post("bare", body(most)); p.status != http.StatusAccepted {
		t.Errorf("%d bytes: %d %s", most, p.status, p.body)
	}
	f.with(acme).post("bare", body(most+1)).is(t, "one more", 413, fate.TooLarge)
}

func TestASessionHasANameThatAnAddressCanCarry(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	for _, name := range []string{".", ".."} {
		s := f.post("toy", `{"input":{"text":"x"},"session":"`+name+`"}`).is(t, name, 400, fate.InvalidRequest)
		if s.Pointer == nil || *s.Pointer != "/session" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, name := range []string{"...", "a.b", "./a", "../a"} {
		s := f.post("toy", `{"input":{"text":"x"},"session":"`+name+`"}`).said(t)
		q, err := url.Parse(s.SessionEventsURL)
		if err != nil {
			t.Fatal(err)
		}
		if state := f.follow(q.RequestURI()).next("state"); !strings.Contains(state, `"session":"`+name+`"`) {
			t.Errorf("%s leads to %s", s.SessionEventsURL, state)
		}
	}
}
