package apikey

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

// The HMAC key and the id of the tokens below, which openssl made:
//
//	head="v1.$(printf 'job\nj-1\nacme\nabcdefghijkl\n1800000000' | openssl base64 -A | tr '+/' '-_' | tr -d '=')"
//	printf %s "$head" | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | openssl base64 -A | tr '+/' '-_' | tr -d '='
const (
	knownID      = "abcdefghijkl"
	jobToken     = "v1.am9iCmotMQphY21lCmFiY2RlZmdoaWprbAoxODAwMDAwMDAw.y0Q__hhOsxMYXncAbfHU_9qnAIRo6bd06qzscA30Y6I"
	sessionToken = "v1.c2Vzc2lvbgp1c2VyLzQyQHgKYWNtZQphYmNkZWZnaGlqa2wKMTgwMDAwMDAwMA.EJbd4azNiMmwkp1_8sbFKMb-IXCJanHGcnTFdhqcZLQ"
)

var (
	end          = time.Unix(1800000000, 0).UTC()
	jobGrant     = Grant{Tenant: "acme", Job: "j-1", KeyID: knownID, Until: end}
	sessionGrant = Grant{Tenant: "acme", Session: "user/42@x", KeyID: knownID, Until: end}
)

func knownKey() []byte {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	return key
}

// knownRing signs with the known key on behalf of the known id.
func (b *bundle) knownRing() *Ring {
	b.t.Helper()
	b.replace("signing", `{"v":1,"keys":[{"key":"`+base64.StdEncoding.EncodeToString(knownKey())+`","at":"2026-01-02T12:00:00Z"}]}`)
	b.replace("key."+knownID, `{"v":1,"id":"`+knownID+`","name":"web","tenant":"acme","scopes":["read"],"rate":0,"burst":0,"created_at":"2026-01-02T12:00:00Z","sha256":"`+strings.Repeat("0", 64)+`"}`)
	return b.ring(b.url)
}

// forged is a token that is signed well, whatever is in it.
func forged(payload string) string {
	head := "v1." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	h := hmac.New(sha256.New, knownKey())
	h.Write([]byte(head))
	return head + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func TestATokenIsWhatTheFormatSays(t *testing.T) {
	t.Parallel()
	r := setup(t).knownRing()
	for want, g := range map[string]Grant{jobToken: jobGrant, sessionToken: sessionGrant} {
		got, err := r.Sign(g)
		if err != nil || got != want {
			t.Errorf("signed\n%s, %v, not\n%s", got, err, want)
		}
		if read, err := r.Verify(want, end); err != nil || read != g {
			t.Errorf("read %+v, %v, not %+v", read, err, g)
		}
	}
	g := jobGrant
	g.Until = end.Add(-time.Millisecond)
	if got, err := r.Sign(g); err != nil || got != jobToken {
		t.Errorf("a part of a second is rounded up: %s, %v", got, err)
	}
	widest := Grant{Tenant: strings.Repeat("t", 128), Session: strings.Repeat("s", 128), KeyID: knownID, Until: time.Unix(1<<40, 0).UTC()}
	if token := forged(widest.payload()); len(token) > maxToken {
		t.Errorf("a token may have %d bytes", len(token))
	}
}

func TestATokenEndsAtItsTimeGiveOrTakeTheClocks(t *testing.T) {
	t.Parallel()
	r := setup(t).knownRing()
	for _, c := range []struct {
		now  time.Time
		want error
	}{
		{end.Add(-24 * time.Hour), nil},
		{end, nil},
		{end.Add(30 * time.Second), nil},
		{end.Add(30*time.Second + time.Nanosecond), ErrExpired},
		{end.Add(time.Hour), ErrExpired},
	} {
		if g, err := r.Verify(jobToken, c.now); !errors.Is(err, c.want) || (err == nil) != (g == jobGrant) {
			t.Errorf("at %s: %+v, %v, want %v", c.now.Sub(end), g, err, c.want)
		}
	}
}

func TestATokenThatWasChangedIsForged(t *testing.T) {
	t.Parallel()
	r := setup(t).knownRing()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= "
	for i := range len(jobToken) {
		if _, err := r.Verify(jobToken[:i], end); !errors.Is(err, ErrForged) {
			t.Fatalf("cut after %d: %v", i, err)
		}
		for _, c := range alphabet {
			if changed := jobToken[:i] + string(c) + jobToken[i+1:]; changed != jobToken {
				if g, err := r.Verify(changed, end); !errors.Is(err, ErrForged) || g != (Grant{}) {
					t.Fatalf("with %q at %d: %+v, %v", c, i, g, err)
				}
			}
		}
	}
	head, mac := jobToken[:strings.LastIndex(jobToken, ".")], jobToken[strings.LastIndex(jobToken, "."):]
	for name, token := range map[string]string{
		"padded": jobToken + "=", "longer": jobToken + "A", "a line feed": jobToken + "\n", "twice": jobToken + jobToken, "the mac of another": head + sessionToken[strings.LastIndex(sessionToken, "."):],
		"no mac": head + ".", "mac alone": mac, "version 2": "v2" + jobToken[2:], "dots": "...", "huge": "v1." + strings.Repeat("A", 1<<20) + ".A",
	} {
		if g, err := r.Verify(token, end); !errors.Is(err, ErrForged) || g != (Grant{}) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	other := setup(t).ring(setup(t).url) // another broker has another key
	if _, err := other.Verify(jobToken, end); !errors.Is(err, ErrForged) {
		t.Errorf("elsewhere: %v", err)
	}
}

// Even what was signed with the right key is taken only in the one form.
func TestAPayloadThatIsNoneIsForged(t *testing.T) {
	t.Parallel()
	r := setup(t).knownRing()
	tail := "\nacme\n" + knownID + "\n1800000000"
	if g, err := r.Verify(forged("job\nj-1"+tail), end); err != nil || g != jobGrant {
		t.Fatalf("%+v, %v", g, err)
	}
	for _, payload := range []string{
		"", "\n\n\n\n", "job\nj-1\nacme\n" + knownID, "job\nj-1" + tail + "\n", "task\nj-1" + tail, "job\n" + tail, "job\nj.1" + tail, "session\na b" + tail,
		"job\nj-1\n\n" + knownID + "\n1800000000", "job\nj-1\nacme\nAB\n1800000000", "job\nj-1\nacme\n" + knownID + "\nsoon", "job\nj-1\nacme\n" + knownID + "\n-5",
		"job\nj-1\nacme\n" + knownID + "\n99999999999999999999", "job\nj-1\nacme\n" + knownID + "\n9223372036854775807",
		"job\nj-1\nacme\n" + knownID + "\n+1800000000", "job\nj-1\nacme\n" + knownID + "\n01800000000",
	} {
		if g, err := r.Verify(forged(payload), end); !errors.Is(err, ErrForged) {
			t.Errorf("%q: %+v, %v", payload, g, err)
		}
	}
	for payload, want := range map[string]error{
		"job\nj-1\nother\n" + knownID + "\n1800000000": ErrRevoked, // the key is not of that tenant
		"job\nj-1\nacme\naaaaaaaaaaaa\n1800000000":     ErrRevoked, // there is no such key any more
	} {
		if g, err := r.Verify(forged(payload), end); !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v", payload, g, err)
		}
	}
}

func TestAGrantThatIsNoneIsNotSigned(t *testing.T) {
	t.Parallel()
	r := setup(t).knownRing()
	for name, change := range map[string]func(*Grant){
		"neither":            func(g *Grant) { g.Job = "" },
		"both":               func(g *Grant) { g.Session = "s" },
		"no id":              func(g *Grant) { g.Job = "a\nb" },
		"no session":         func(g *Grant) { g.Job, g.Session = "", "a\nb" },
		"no tenant":          func(g *Grant) { g.Tenant = "" },
		"another tenant":     func(g *Grant) { g.Tenant = "other" },
		"no key":             func(g *Grant) { g.KeyID = "" },
		"an unknown key":     func(g *Grant) { g.KeyID = "aaaaaaaaaaaa" },
		"no end":             func(g *Grant) { g.Until = time.Time{} },
		"an end in the past": func(g *Grant) { g.Until = time.Unix(-5, 0) },
	} {
		g := jobGrant
		change(&g)
		if token, err := r.Sign(g); err == nil || token != "" {
			t.Errorf("%s: signed %q", name, token)
		}
	}
}

func TestARingHearsOfANewSigningKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.knownRing()
	signsAnew := func(old string) string {
		t.Helper()
		var token string
		brokertest.Eventually(t, within, "the ring signs with another key", func() bool {
			var err error
			token, err = r.Sign(jobGrant)
			return err == nil && token != old
		})
		return token
	}
	if err := Rotate(t.Context(), b.conn); err != nil {
		t.Fatal(err)
	}
	second := signsAnew(jobToken)
	for _, token := range []string{jobToken, second} {
		if _, err := r.Verify(token, end); err != nil {
			t.Errorf("after one rotation: %v", err)
		}
	}
	if err := Rotate(t.Context(), b.conn); err != nil {
		t.Fatal(err)
	}
	third := signsAnew(second)
	for token, want := range map[string]error{jobToken: ErrForged, second: nil, third: nil} {
		if _, err := r.Verify(token, end); !errors.Is(err, want) {
			t.Errorf("after two rotations: %v, want %v", err, want)
		}
	}
	stored, err := b.conn.Record(t.Context(), broker.KeysBucket, "signing")
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Keys []struct{ Key []byte } }
	if err := json.Unmarshal(stored.Data, &s); err != nil || len(s.Keys) != 2 || len(s.Keys[0].Key) != 32 {
		t.Errorf("%d keys are stored, %v", len(s.Keys), err)
	}
}

func TestASigningKeyThatCannotBeReadStopsTheStartAndIsReplacedByARotation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.knownRing()
	for name, garbage := range map[string]string{
		"no JSON": "{", "no keys": `{"v":1,"keys":[]}`, "a short key": `{"v":1,"keys":[{"key":"AAAA"}]}`,
		"a later version": `{"v":2,"keys":[{"key":"` + base64.StdEncoding.EncodeToString(knownKey()) + `"}]}`,
	} {
		b.replace("signing", garbage)
		_, err := Follow(t.Context(), b.conn, zerolog.Nop())
		if !errors.Is(err, broker.ErrUnreadable) || !strings.Contains(fmt.Sprint(err), "spillway key rotate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := r.Sign(jobGrant); err != nil || got != jobToken {
		t.Errorf("a ring goes on as before: %s, %v", got, err)
	}
	if err := Rotate(t.Context(), b.conn); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ring(b.url).Sign(jobGrant); err != nil || got == jobToken {
		t.Errorf("after a rotation: %s, %v", got, err)
	}
}

func FuzzVerify(f *testing.F) {
	r := setup(f).knownRing()
	tail := "\nacme\n" + knownID + "\n1800000000"
	for _, seed := range []string{
		"", ".", "..", "v1.", "v1..", jobToken, sessionToken, jobToken[:50], jobToken + ".", "v2" + jobToken[2:], forged(""), forged("job\nj 1" + tail), forged("job" + tail), forged("job\nj-2" + tail),
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, sign bool) {
		token := text
		if sign {
			token = forged(text)
		}
		g, err := r.Verify(token, end)
		if err != nil {
			if g != (Grant{}) || !errors.Is(err, ErrForged) && !errors.Is(err, ErrExpired) && !errors.Is(err, ErrRevoked) {
				t.Errorf("%q: %+v, %v", token, g, err)
			}
			return
		}
		// What is taken is what Sign would have made, byte for byte.
		if again, err := r.Sign(g); err != nil || again != token {
			t.Errorf("%q is taken as %+v, which is signed as %q, %v", token, g, again, err)
		}
	})
}
