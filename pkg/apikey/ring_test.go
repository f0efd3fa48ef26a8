package apikey

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
)

func TestOnlyTheWholeSecretOpens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, k := b.create(acme())
	other, _ := b.create(Spec{Name: "other", Tenant: "other", Scopes: []Scope{Read}})
	gone, _ := b.create(acme())
	b.revoke(gone[3:15])
	r := b.ring(b.url)
	if got, err := r.Check(secret); err != nil || got.ID != k.ID || got.Tenant != "acme" || got.Rate != 50 || got.Burst != 100 {
		t.Fatalf("the secret opens %+v, %v", got, err)
	}
	flipped := []byte(secret)
	flipped[20] ^= 1
	for name, given := range map[string]string{
		"nothing": "", "the prefix": "sk_", "the id": k.ID, "no random part": secret[:16], "cut": secret[:58], "one more": secret + "A",
		"another case": strings.ToUpper(secret), "a flipped bit": string(flipped), "the random part of another": secret[:16] + other[16:],
		"an unknown id": "sk_aaaaaaaaaaaa" + secret[15:], "another prefix": "pk" + secret[2:], "a space": secret + " ", "long": strings.Repeat(secret, 10_000),
		"a guess for a revoked key": gone[:16] + secret[16:], "not UTF-8": "sk_\xff\xfe" + secret[5:], "no hash of it": "sk_aaaaaaaaaaaa_" + strings.Repeat("\x00", 43),
	} {
		if got, err := r.Check(given); !errors.Is(err, ErrUnknown) || got != nil {
			t.Errorf("%s opens %+v, %v", name, got, err)
		}
	}
	if got, err := r.Check(gone); !errors.Is(err, ErrRevoked) || got != nil {
		t.Errorf("a revoked secret: %+v, %v", got, err)
	}
	if got := r.Len(); got != 2 {
		t.Errorf("%d keys are in force, not 2", got)
	}
}

func TestARingHearsOfNewKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.ring(b.url)
	if got := r.Len(); got != 0 {
		t.Errorf("%d keys before the first", got)
	}
	secret, k := b.create(acme())
	b.eventually(r, secret, nil)
	if got, err := r.Key(k.ID); err != nil || got.Name != "web" || r.Len() != 1 {
		t.Errorf("by its id: %+v, %v; %d keys", got, err, r.Len())
	}
	if _, err := r.Key("aaaaaaaaaaaa"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown id: %v", err)
	}
}

// Ring and token of a process that the broker cannot reach meanwhile.
func TestEveryRingRefusesARevokedKeyAndOneThatWasCutOffDoesOnceItIsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, k := b.create(acme())
	link := brokertest.Proxy(t, b.url)
	near, far := b.ring(b.url), b.ring(link.URL())
	token, err := near.Sign(Grant{Tenant: "acme", Session: "s", KeyID: k.ID, Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Ring{"near": near, "far": far} {
		if _, err := r.Check(secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Verify(token, time.Now()); err != nil {
			t.Errorf("%s: token %v", name, err)
		}
	}

	link.Cut()
	brokertest.Eventually(t, within, "the far ring is cut off", func() bool { return !far.conn.NC.IsConnected() })
	b.revoke(k.ID)
	fresh, _ := b.create(acme())
	b.eventually(near, secret, ErrRevoked)
	b.eventually(near, fresh, nil)
	if _, err := near.Verify(token, time.Now()); !errors.Is(err, ErrRevoked) {
		t.Errorf("the token of a revoked key: %v", err)
	}
	if _, err := near.Sign(Grant{Tenant: "acme", Session: "s", KeyID: k.ID, Until: time.Now().Add(time.Hour)}); !errors.Is(err, ErrRevoked) {
		t.Errorf("a token for a revoked key: %v", err)
	}
	if _, err := far.Check(secret); err != nil {
		t.Errorf("cut off, a ring goes by what it knows: %v", err)
	}

	link.Heal()
	b.eventually(far, secret, ErrRevoked)
	b.eventually(far, fresh, nil)
	if _, err := far.Verify(token, time.Now()); !errors.Is(err, ErrRevoked) {
		t.Errorf("the token of a revoked key, back again: %v", err)
	}
}

func TestARingHearsOfARevocationAfterTheServerWasRestarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	link := brokertest.Proxy(t, server.URL())
	b := setupAt(t, server.URL(), 1)
	secret, k := b.create(acme())
	r := b.ring(link.URL())
	port := server.Server.Addr().(*net.TCPAddr).Port
	r.lookAnew() // the answer is lost with the connection
	link.Cut()
	server.Stop()
	again := brokertest.StartServer(t, embedded.Options{Port: port, Store: dir, Sync: time.Second})
	b.conn = brokertest.Connect(t, again.URL())
	b.revoke(k.ID)
	if _, err := r.Check(secret); err != nil {
		t.Fatalf("the ring heard of it without a connection: %v", err)
	}
	back := make(chan struct{}, 1)
	r.conn.OnReconnect(func() { back <- struct{}{} })
	link.Heal()
	select {
	case <-back:
	case <-time.After(within):
		t.Fatal("the ring does not come back")
	}
	// What follows the bucket needs more than ten seconds to miss a server's heartbeats.
	brokertest.Eventually(t, 8*time.Second, "the ring has looked at the bucket", func() bool {
		_, err := r.Check(secret)
		return errors.Is(err, ErrRevoked)
	})
}

func TestReplicasThatStartTogetherSignWithOneKey(t *testing.T) {
	t.Parallel()
	var urls []string
	for _, node := range brokertest.Cluster(t) {
		urls = append(urls, node.URL())
	}
	b := setupAt(t, urls[0], 3)
	rings := make([]*Ring, 3*len(urls))
	errs := make([]error, len(rings))
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range rings {
		conn := brokertest.Connect(t, urls[i%len(urls)])
		all.Go(func() {
			<-start
			rings[i], errs[i] = Follow(t.Context(), conn, zerolog.Nop())
		})
	}
	_, k := b.create(acme()) // revision 1; all rings know it once they follow
	close(start)
	all.Wait()
	for i, r := range rings {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		t.Cleanup(r.Close)
	}
	for _, signer := range rings {
		token, err := signer.Sign(Grant{Tenant: "acme", Job: "j", KeyID: k.ID, Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rings {
			if _, err := r.Verify(token, time.Now()); err != nil {
				t.Errorf("one replica's token is not another's: %v", err)
			}
		}
	}
	stored, err := b.conn.Record(t.Context(), broker.KeysBucket, "signing")
	if err != nil || stored.Revision != 2 {
		t.Errorf("the signing key has revision %d, written once it has 2; %v", stored.Revision, err)
	}
}

func TestARecordThatCannotBeReadIsAnUnknownKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good, _ := b.create(acme())
	for name, change := range map[string]func(string) string{
		"no JSON":            func(string) string { return "{" },
		"of a later version": func(s string) string { return strings.Replace(s, `"v":1`, `"v":2`, 1) },
		"a short hash":       func(s string) string { return strings.Replace(s, `"sha256":"`, `"sha256":"","was":"`, 1) },
		"of another id":      func(s string) string { return strings.Replace(s, `"id":"`, `"id":"b`, 1) },
		"empty":              func(string) string { return "" },
	} {
		secret, k := b.create(acme())
		r := b.ring(b.url)
		stored, err := b.conn.Record(t.Context(), broker.KeysBucket, "key."+k.ID)
		if err != nil {
			t.Fatal(err)
		}
		b.replace("key."+k.ID, change(string(stored.Data)))
		b.eventually(r, secret, ErrUnknown)
		if _, err := b.ring(b.url).Check(secret); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Check(good); err != nil {
			t.Errorf("%s: the others go on: %v", name, err)
		}
	}
	if keys, err := List(t.Context(), b.conn); len(keys) != 1 || !errors.Is(err, broker.ErrUnreadable) {
		t.Errorf("listed %+v, %v", keys, err)
	}
}

func TestARemovedKeyIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, k := b.create(acme())
	r := b.ring(b.url)
	stored, err := b.conn.Record(t.Context(), broker.KeysBucket, "key."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Remove(t.Context(), broker.KeysBucket, "key."+k.ID, stored.Revision); err != nil {
		t.Fatal(err)
	}
	b.eventually(r, secret, ErrUnknown)
}

func FuzzCheck(f *testing.F) {
	b := setup(f)
	secret, k := b.create(acme())
	gone, _ := b.create(acme())
	b.revoke(gone[3:15])
	r := b.ring(b.url)
	for _, seed := range []string{"", "sk_", secret, gone, secret[:58], secret + "_", "sk_" + k.ID + "_" + strings.Repeat("_", 43), strings.Repeat("_", 59), "sk_\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		got, err := r.Check(given)
		switch {
		case given == secret && (err != nil || got.ID != k.ID):
			t.Errorf("the secret opens %+v, %v", got, err)
		case given == gone && !errors.Is(err, ErrRevoked):
			t.Errorf("the revoked secret: %v", err)
		case given != secret && given != gone && (!errors.Is(err, ErrUnknown) || got != nil):
			t.Errorf("%q opens %+v, %v", given, got, err)
		}
	})
}

func TestWithoutTheBucketNothingIsFollowed(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	_, err := Follow(t.Context(), conn, zerolog.Nop())
	if err == nil || !strings.Contains(err.Error(), "llm_keys") || !strings.Contains(err.Error(), "not found") {
		t.Errorf("followed: %v", err)
	}
}

// What follows the bucket and what looks at it may overtake each other.
func TestAnOlderRecordDoesNotUndoARevocation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, k := b.create(acme())
	before, err := b.conn.Record(t.Context(), broker.KeysBucket, "key."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	b.revoke(k.ID)
	r := b.ring(b.url)
	r.learn(before)
	if _, err := r.Check(secret); !errors.Is(err, ErrRevoked) {
		t.Errorf("with the record from before: %v", err)
	}
}
