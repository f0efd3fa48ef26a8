package apikey

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func TestAKeyMayWhatItSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scopes []Scope
		tasks  []string
		scope  Scope
		task   string
		may    bool
	}{
		{[]Scope{Submit, Read}, nil, Submit, "toy", true},
		{[]Scope{Submit, Read}, nil, Read, "", true},
		{[]Scope{Read}, nil, Submit, "toy", false},
		{[]Scope{Read}, nil, Submit, "", false},
		{[]Scope{Submit}, []string{"toy"}, Submit, "toy", true},
		{[]Scope{Submit}, []string{"toy"}, Submit, "toys", false},
		{[]Scope{Submit}, []string{"toy"}, Submit, "", true},
		{[]Scope{Submit}, []string{"toy"}, Read, "toy", false},
		{nil, nil, Read, "toy", false},
		{[]Scope{Read}, nil, "", "toy", false},
	} {
		k := Key{Scopes: c.scopes, Tasks: c.tasks}
		if got := k.May(c.scope, c.task); got != c.may {
			t.Errorf("a key for %v of %v may %q %q: %t", c.scopes, c.tasks, c.scope, c.task, got)
		}
	}
}

func TestASpecIsRefusedWithEveryReason(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := strings.Repeat("a", 129)
	for name, c := range map[string]struct {
		change func(*Spec)
		says   []string
	}{
		"no name":        {func(s *Spec) { s.Name = "" }, []string{"name"}},
		"a long name":    {func(s *Spec) { s.Name = long }, []string{"name"}},
		"no tenant":      {func(s *Spec) { s.Tenant = "" }, []string{"tenant"}},
		"a line feed":    {func(s *Spec) { s.Tenant = "a\nb" }, []string{"tenant"}},
		"no task's name": {func(s *Spec) { s.Tasks = []string{"toy", "To y", ""} }, []string{`"To y"`, `""`}},
		"many tasks":     {func(s *Spec) { s.Tasks = slices.Repeat([]string{"toy"}, 101) }, []string{"101"}},
		"no scope":       {func(s *Spec) { s.Scopes = nil }, []string{"scope"}},
		"a wrong scope":  {func(s *Spec) { s.Scopes = []Scope{"admin"} }, []string{`"admin"`}},
		"below zero":     {func(s *Spec) { s.Rate, s.Burst = -1, -1 }, []string{"rate", "burst"}},
		"no number":      {func(s *Spec) { s.Rate = math.NaN() }, []string{"rate"}},
		"no end":         {func(s *Spec) { s.Rate = math.Inf(1) }, []string{"rate"}},
		"burst alone":    {func(s *Spec) { s.Rate, s.Burst = 0, 5 }, []string{"burst"}},
		"all of it":      {func(s *Spec) { *s = Spec{Rate: -1} }, []string{"name", "tenant", "scope", "rate"}},
	} {
		s := acme()
		c.change(&s)
		secret, _, err := Create(t.Context(), b.conn, s)
		if err == nil || secret != "" {
			t.Errorf("%s: made %q", name, secret)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not speak of %s", name, err, text)
			}
		}
	}
	if keys, err := List(t.Context(), b.conn); err != nil || len(keys) != 0 {
		t.Errorf("listed %v, %v", keys, err)
	}
}

func TestAKeyIsStoredAsItWasAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, web := b.create(Spec{Name: "web", Tenant: "acme", Tasks: []string{"toy", "bare", "toy"}, Scopes: []Scope{Read, Read}, Rate: 0.7})
	if web.Burst != 2 || !slices.Equal(web.Tasks, []string{"bare", "toy"}) || !slices.Equal(web.Scopes, []Scope{Read}) || web.Revoked() {
		t.Errorf("made %+v", web)
	}
	_, free := b.create(Spec{Name: "free", Tenant: "acme", Scopes: []Scope{Read}})
	if free.Burst != 0 || free.Rate != 0 || len(free.Tasks) != 0 {
		t.Errorf("made %+v", free)
	}
	keys, err := List(t.Context(), b.conn)
	if err != nil || len(keys) != 2 {
		t.Fatalf("listed %+v, %v", keys, err)
	}
	for _, k := range []Key{web, free} {
		if !slices.ContainsFunc(keys, func(l Key) bool { return fmt.Sprint(l) == fmt.Sprint(k) }) {
			t.Errorf("%+v is not listed: %+v", k, keys)
		}
	}
}

func TestARevokedKeyStaysRevokedSinceTheFirstTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, k := b.create(acme())
	first := b.revoke(k.ID)
	if !first.Revoked() || time.Since(first.RevokedAt) > time.Minute {
		t.Errorf("revoked %+v", first)
	}
	stored, err := b.conn.Record(t.Context(), broker.KeysBucket, "key."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again := b.revoke(k.ID); !again.RevokedAt.Equal(first.RevokedAt) {
		t.Errorf("revoked again at %s, first at %s", again.RevokedAt, first.RevokedAt)
	}
	if after, err := b.conn.Record(t.Context(), broker.KeysBucket, "key."+k.ID); err != nil || after.Revision != stored.Revision {
		t.Errorf("the second time stored revision %d over %d, %v", after.Revision, stored.Revision, err)
	}
	for _, id := range []string{"", "aaaaaaaaaaaa", "*", ">", "a.b", "sk_" + k.ID} {
		if _, err := Revoke(t.Context(), b.conn, id); !errors.Is(err, ErrUnknown) {
			t.Errorf("revoked %q: %v", id, err)
		}
	}
}

func TestASecretIsKeptNowhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, k := b.create(acme())
	random := secret[16:]
	r := b.ring(b.url)
	stored, err := b.conn.Record(t.Context(), broker.KeysBucket, "key."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(stored.Data, &fields); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(secret))
	if fields["sha256"] != hex.EncodeToString(sum[:]) || fields["v"] != 1.0 || fields["id"] != k.ID || fields["tenant"] != "acme" {
		t.Errorf("stored %s", stored.Data)
	}
	token, err := r.Sign(Grant{Tenant: "acme", Job: "j", KeyID: k.ID, Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	// Everything that goes wrong is logged or returned without it.
	_, err = r.Check(secret[:len(secret)-1])
	said := fmt.Sprint(err)
	_, err = r.Verify(token+"x", time.Now())
	said += fmt.Sprint(err)
	_, err = Revoke(t.Context(), b.conn, secret)
	said += fmt.Sprint(err)
	b.revoke(k.ID)
	b.eventually(r, secret, ErrRevoked)
	_, err = r.Check(secret)
	said += fmt.Sprint(err)
	b.replace("key."+k.ID, `{"v":2,"sha256":"`+hex.EncodeToString(sum[:])+`"}`)
	b.replace("signing", `{"v":1,"keys":[{"key":"AAAA"}]}`)
	brokertest.Eventually(t, within, "both are logged", func() bool {
		return strings.Contains(b.logs.String(), "cannot be read") && strings.Contains(b.logs.String(), "as before")
	})
	keys, err := List(t.Context(), b.conn)
	said += fmt.Sprint(keys, err)
	for what, hidden := range map[string]string{"the secret": random, "its hash": hex.EncodeToString(sum[:]), "the token": token, "the signing key": "AAAA"} {
		for where, text := range map[string]string{"a log": b.logs.String(), "an answer": said} {
			if strings.Contains(text, hidden) {
				t.Errorf("%s is in %s: %s", what, where, text)
			}
		}
	}
	if strings.Contains(string(stored.Data), random) {
		t.Error("the secret is in its record")
	}
}
