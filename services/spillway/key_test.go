package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
)

func TestAKeyIsMadeListedAndRevoked(t *testing.T) {
	r := serve(t)
	r.spillway(t, "key", "ls").with(exitOK, "no keys", "spillway key create")
	made := r.spillway(t, "key", "create", "web", "--tenant=acme", "--task=analyze", "--task=summarize", "--scope=read", "--rate=2.5").with(exitOK, "not shown again", "Authorization: Bearer")
	if !regexp.MustCompile(`^sk_[a-z2-7]{12}_[A-Za-z0-9_-]{43}\n$`).MatchString(made.out) {
		t.Fatalf("standard output is the secret alone, not %q", made.out)
	}
	secret := strings.TrimSpace(made.out)
	if strings.Contains(made.err, secret[16:]) {
		t.Error("the secret is on standard error")
	}
	id := secret[3:15]
	r.spillway(t, "key", "ls").with(exitOK, id, "web", "acme", "analyze,summarize", "read", "2.5/s, burst 5", "never").without(secret[16:])
	before := r.spillway(t, "key", "ls", "--json").with(exitOK).without("sha256", "secret").one()
	if before["id"] != id || before["name"] != "web" || before["tenant"] != "acme" || before["rate"] != 2.5 || before["burst"] != 5.0 || before["revoked_at"] != nil {
		t.Errorf("listed %v", before)
	}

	if k, err := followed(t, r.conn).Check(secret); err != nil || !k.May(apikey.Read, "analyze") || k.May(apikey.Submit, "analyze") || k.May(apikey.Read, "translate") {
		t.Errorf("the secret opens %+v, %v", k, err)
	}

	r.spillway(t, "key", "revoke", id).with(exitOK, "is revoked since", "within moments")
	first := r.spillway(t, "key", "ls", "--json").one()["revoked_at"]
	at, err := time.Parse(time.RFC3339, first.(string))
	if err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
		t.Errorf("revoked at %v, %v", first, err)
	}
	if again := r.spillway(t, "key", "revoke", id, "--json").with(exitOK).one(); again["revoked_at"] != first {
		t.Errorf("revoked again, it is revoked since %v, not %v", again["revoked_at"], first)
	}
	r.spillway(t, "key", "ls").with(exitOK, id, "ago").without("never")
}

func TestAKeyIsMadeWithItsDefaultsAndPrintedAsJSON(t *testing.T) {
	r := serve(t)
	row := r.spillway(t, "key", "create", "web", "--tenant=acme", "--json").with(exitOK).one()
	secret, _ := row["secret"].(string)
	if id, _ := row["id"].(string); len(secret) != 59 || id != secret[3:15] {
		t.Errorf("made %v", row)
	}
	r.spillway(t, "key", "ls").with(exitOK, "all", "read,submit", "50/s, burst 100")
	r.spillway(t, "key", "create", "batch", "--tenant=acme", "--rate=0").with(exitOK)
	r.spillway(t, "key", "ls").with(exitOK, "unlimited")
}

func TestBadKeysAreRefusedWithEveryReason(t *testing.T) {
	r := serve(t)
	r.spillway(t, "key", "create", "my key", "--tenant=a b", "--task=Analyze", "--scope=admin", "--rate=NaN", "--burst=-1").with(exitUsage,
		`name "my key"`, `tenant "a b"`, `task "Analyze"`, `not "admin"`, "the rate is", "the burst is")
	r.spillway(t, "key", "create", "web").with(exitUsage, "--tenant")
	r.spillway(t, "key", "revoke", "aaaaaaaaaaaa").with(exitNotFound, "there is no key aaaaaaaaaaaa")
	secret := "sk_aaaaaaaaaaaa_" + strings.Repeat("x", 43)
	r.spillway(t, "key", "revoke", secret).with(exitUsage, "no id of a key").without(secret[16:])
	r.spillway(t, "key", "ls").with(exitOK, "no keys")
}

func TestTwoRotationsEndAllTokens(t *testing.T) {
	r := serve(t)
	row := r.spillway(t, "key", "create", "web", "--tenant=acme", "--json").with(exitOK).one()
	token := func() string {
		t.Helper()
		token, err := followed(t, r.conn).Sign(apikey.Grant{Tenant: "acme", Job: "j", KeyID: row["id"].(string), Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	holds := func(token string, want bool) {
		t.Helper()
		if _, err := followed(t, r.conn).Verify(token, time.Now()); (err == nil) != want {
			t.Errorf("the token is taken: %v, want %t", err, want)
		}
	}
	first := token()
	r.spillway(t, "key", "rotate").with(exitOK, "until the next rotation")
	second := token()
	holds(first, true)
	if rotated := r.spillway(t, "key", "rotate", "--json").with(exitOK).one(); rotated["rotated"] != true {
		t.Errorf("%v", rotated)
	}
	holds(first, false)
	holds(second, true)
}

// followed is a ring that has just read the bucket.
func followed(t *testing.T, conn *broker.Conn) *apikey.Ring {
	t.Helper()
	ring, err := apikey.Follow(t.Context(), conn, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ring.Close)
	return ring
}
