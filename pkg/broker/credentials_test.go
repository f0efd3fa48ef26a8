package broker_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/credentials"
)

// guarded is a server that wants to know who connects.
type guarded struct {
	*server.Server
	t    *testing.T
	conf string
	log  *spoken
}

// spoken is a log that may be read while it is written.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// guard runs a server with the text as its configuration until the test ends.
func guard(t *testing.T, text string) *guarded {
	t.Helper()
	g := &guarded{t: t, conf: filepath.Join(t.TempDir(), "nats.conf"), log: &spoken{}}
	g.write(text)
	opts, err := server.ProcessConfigFile(g.conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	if g.Server, err = server.NewServer(opts); err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() { g.Shutdown(); g.WaitForShutdown() })
	if !g.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return g
}

func (g *guarded) write(text string) { put(g.t, g.conf, "listen: 127.0.0.1:-1\n"+text) }

// reload has the server take another configuration.
func (g *guarded) reload(text string) {
	g.t.Helper()
	g.write(text)
	if err := g.Reload(); err != nil {
		g.t.Fatal(err)
	}
}

// users are those who are connected, as the server names them.
func (g *guarded) users() string {
	g.t.Helper()
	all, err := g.Connz(&server.ConnzOptions{Username: true})
	if err != nil {
		g.t.Fatal(err)
	}
	var names []string
	for _, c := range all.Conns {
		names = append(names, c.AuthorizedUser)
	}
	return strings.Join(names, " ")
}

func (g *guarded) connect(as broker.Credentials) (*broker.Conn, error) {
	g.t.Helper()
	c, err := broker.Connect(broker.ConnectOptions{URL: "nats://" + g.Addr().String(), As: as, Patient: true, Log: zerolog.New(g.log)})
	if err == nil {
		g.t.Cleanup(c.Close)
	}
	return c, err
}

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// user is one with an nkey.
type user struct{ seed, public string }

func newUser(t *testing.T, create func() (nkeys.KeyPair, error)) user {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	seed, seedErr := pair.Seed()
	public, publicErr := pair.PublicKey()
	if seedErr != nil || publicErr != nil {
		t.Fatal(seedErr, publicErr)
	}
	return user{string(seed), public}
}

func (u user) conf() string { return "authorization { users: [ {nkey: " + u.public + "} ] }\n" }

// rotation is a secret that is replaced, first at the server, then in its file, while a connection has it in use.
type rotation struct {
	former, next string
	// as the server names who connects by the file, before and after.
	before, after string
	conf          func(public string) string
	as            func(path string) broker.Credentials
}

func rotations(t *testing.T) map[string]rotation {
	first, second := newUser(t, nkeys.CreateUser), newUser(t, nkeys.CreateUser)
	return map[string]rotation{
		"nkey": {
			former: first.seed + "\n", next: second.seed, before: first.public, after: second.public,
			conf: func(public string) string { return user{public: public}.conf() },
			as:   func(path string) broker.Credentials { return broker.Credentials{Nkey: path} },
		},
		"password": {
			former: "the-former-one\n", next: "the-next-one\n", before: "app", after: "app",
			conf: func(string) string { return "authorization { user: app, password: the-former-one }\n" },
			as:   func(path string) broker.Credentials { return broker.Credentials{User: "app", PasswordFile: path} },
		},
	}
}

func TestARotatedSecretNeedsNoRestart(t *testing.T) {
	for name, r := range rotations(t) {
		t.Run(name, func(t *testing.T) {
			g := guard(t, r.conf(r.before))
			path := put(t, filepath.Join(t.TempDir(), "secret"), r.former)
			c, err := g.connect(r.as(path))
			if err != nil {
				t.Fatal(err)
			}
			sub, err := c.NC.SubscribeSync("still.here")
			if err != nil {
				t.Fatal(err)
			}
			brokertest.Eventually(t, 10*time.Second, "it is known by the former secret", func() bool { return g.users() == r.before })
			// The server first, and long enough to be refused more often than the client library bears by itself.
			g.reload(strings.ReplaceAll(r.conf(r.after), "the-former-one", "the-next-one"))
			brokertest.Eventually(t, 20*time.Second, "it is refused", func() bool { return strings.Contains(g.log.String(), "remedy") })
			tries := func() uint64 { v, _ := g.Varz(nil); return v.TotalConnections }
			seen := tries()
			brokertest.Eventually(t, 30*time.Second, "it goes on trying", func() bool { return tries() > seen+3 })
			put(t, path, r.next)
			brokertest.Eventually(t, 30*time.Second, "it is known by the next secret", func() bool { return g.users() == r.after && c.NC.IsConnected() })
			if err := c.NC.Publish("still.here", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.NextMsg(10 * time.Second); err != nil {
				t.Errorf("the subscription of before the rotation: %v", err)
			}
			for _, secret := range []string{r.former, r.next} {
				if strings.Contains(g.log.String(), strings.TrimSpace(secret)) {
					t.Errorf("a secret was logged: %s", g.log)
				}
			}
		})
	}
}

// A user's JWT that expires is replaced in its file beforehand, as operators' machinery does.
func TestAnExpiredJWTIsReplacedByTheOneInTheFile(t *testing.T) {
	operator, account, app := newUser(t, nkeys.CreateOperator), newUser(t, nkeys.CreateAccount), newUser(t, nkeys.CreateUser)
	oc := jwt.NewOperatorClaims(operator.public)
	ac := jwt.NewAccountClaims(account.public)
	g := guard(t, fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: { %s: %s }\n", encode(t, oc, operator), account.public, encode(t, ac, operator)))
	creds := func(within time.Duration) string {
		uc := jwt.NewUserClaims(app.public)
		uc.Expires = time.Now().Add(within).Unix()
		text, err := jwt.FormatUserConfig(encode(t, uc, account), []byte(app.seed))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	path := put(t, filepath.Join(t.TempDir(), "app.creds"), creds(4*time.Second))
	c, err := g.connect(broker.Credentials{Creds: path})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 30*time.Second, "the server disconnects it", func() bool { return strings.Contains(g.log.String(), "nats: authentication expired") })
	put(t, path, creds(time.Hour))
	brokertest.Eventually(t, 30*time.Second, "it is back", func() bool { return c.NC.IsConnected() && g.users() == app.public })
}

func encode(t *testing.T, claims jwt.Claims, by user) string {
	t.Helper()
	pair, err := nkeys.FromSeed([]byte(by.seed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := claims.Encode(pair)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWhatIsWrongWithASecretIsSaidWithTheRemedyAndWithoutTheSecret(t *testing.T) {
	app, other, account := newUser(t, nkeys.CreateUser), newUser(t, nkeys.CreateUser), newUser(t, nkeys.CreateAccount)
	g := guard(t, app.conf())
	dir := t.TempDir()
	file := func(name, text string) string { return put(t, filepath.Join(dir, name), text) }
	seed := file("seed", app.seed)
	for name, c := range map[string]struct {
		as   broker.Credentials
		want []string
	}{
		"nobody":               {broker.Credentials{}, []string{"Authorization Violation", "give --nats-creds, --nats-nkey or --nats-password-file"}},
		"a key that is new":    {broker.Credentials{Nkey: file("new", other.seed)}, []string{"Authorization Violation", other.public, dir + "/new", "reload"}},
		"no file":              {broker.Credentials{Nkey: dir + "/none"}, []string{"--nats-nkey", dir + "/none", "no such file", "mount the secret there"}},
		"an empty file":        {broker.Credentials{Nkey: file("empty", "\n")}, []string{"--nats-nkey", dir + "/empty", "is empty"}},
		"the seed itself":      {broker.Credentials{Nkey: app.seed}, []string{"not the secret itself"}},
		"an account's seed":    {broker.Credentials{Nkey: file("account", account.seed)}, []string{"of an account", "begin with SU"}},
		"a public key":         {broker.Credentials{Nkey: file("public", app.public)}, []string{"public key", "seed, which begins with SU"}},
		"a cut seed":           {broker.Credentials{Nkey: file("cut", app.seed[:57])}, []string{dir + "/cut", "no seed of a user"}},
		"creds as nkey":        {broker.Credentials{Nkey: file("creds", "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n"+app.seed)}, []string{"give it with --nats-creds"}},
		"nkey as creds":        {broker.Credentials{Creds: seed}, []string{"give it with --nats-nkey"}},
		"no creds":             {broker.Credentials{Creds: file("text", "hello")}, []string{"no JWT", "nsc generate creds"}},
		"two ways":             {broker.Credentials{Creds: seed, Nkey: seed}, []string{"give one of them"}},
		"a password, no user":  {broker.Credentials{PasswordFile: seed}, []string{"--nats-user"}},
		"a user, no password":  {broker.Credentials{User: "app"}, []string{"--nats-password-file"}},
		"a wrong password":     {broker.Credentials{User: "app", PasswordFile: file("pw", "very-secret")}, []string{"Authorization Violation", "no user app", dir + "/pw"}},
		"half a certificate":   {broker.Credentials{Nkey: seed, Cert: seed}, []string{"go together"}},
		"a CA that is none":    {broker.Credentials{Nkey: seed, CA: seed}, []string{"--nats-ca", "not PEM"}},
		"a CA that is a key":   {broker.Credentials{Nkey: seed, CA: file("key", "-----BEGIN PRIVATE KEY-----\n")}, []string{"--nats-ca", "no certificate"}},
		"no CA":                {broker.Credentials{Nkey: seed, CA: dir + "/none"}, []string{"--nats-ca", "no such file"}},
		"TLS where there none": {broker.Credentials{Nkey: seed, CA: authority(t) + "/client/ca.pem"}, []string{"speaks no TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := g.connect(c.as)
			if err == nil {
				t.Fatalf("it is connected to %s", conn.NC.ConnectedUrlRedacted())
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
			for _, secret := range []string{app.seed, other.seed, account.seed, app.seed[:57], "very-secret"} {
				if strings.Contains(err.Error()+g.log.String(), secret) {
					t.Errorf("it says a secret: %v %s", err, g.log)
				}
			}
		})
	}
	for url, want := range map[string]string{"nats://app@" + g.Addr().String(): "leave one of them out", "nats://a:b@" + g.Addr().String(): "leave one of them out", "nats://%zz": "no address"} {
		if _, err := broker.Connect(broker.ConnectOptions{URL: url, As: broker.Credentials{Nkey: seed}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestTheUserOfAPasswordMayStandInTheURL(t *testing.T) {
	g := guard(t, "authorization { user: app, password: of-a-file }\n")
	path := put(t, filepath.Join(t.TempDir(), "secret"), "of-a-file\n")
	c, err := broker.Connect(broker.ConnectOptions{URL: "app@" + g.Addr().String() + ", nats://app@" + g.Addr().String(), As: broker.Credentials{PasswordFile: path}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	brokertest.Eventually(t, 10*time.Second, "it is connected as app", func() bool { return g.users() == "app" })
}

func TestASecretThatOthersMayReadIsWarnedOf(t *testing.T) {
	app := newUser(t, nkeys.CreateUser)
	g := guard(t, app.conf())
	path := put(t, filepath.Join(t.TempDir(), "seed"), app.seed)
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		g.log.text.Reset()
		if _, err := g.connect(broker.Credentials{Nkey: path}); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(g.log.String(), path) && strings.Contains(g.log.String(), "chmod 600"); said != warned {
			t.Errorf("mode %o: warned %t: %s", mode, said, g.log)
		}
	}
}

// authority is a folder of credentials for a node on this machine.
func authority(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "credentials")
	if _, err := credentials.Create(dir, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhomToTrustIsSaidWithTheRemedy(t *testing.T) {
	own, others, elsewhere := authority(t), authority(t), authority(t)
	if err := credentials.Renew(elsewhere, []string{"nats-1"}); err != nil {
		t.Fatal(err)
	}
	block := func(dir, more string) string {
		return fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q %s }\n", dir+"/nodes/node.pem", dir+"/nodes/node.key", dir+"/nodes/ca.pem", more)
	}
	plain, mutual, away := guard(t, block(own, "")), guard(t, block(own, ", verify: true")), guard(t, block(elsewhere, ""))
	ca := own + "/client/ca.pem"
	for name, c := range map[string]struct {
		at   *guarded
		as   broker.Credentials
		want string // "": it is connected
	}{
		"the CA":                     {plain, broker.Credentials{CA: ca}, ""},
		"no CA":                      {plain, broker.Credentials{}, "--nats-ca FILE"},
		"another CA":                 {plain, broker.Credentials{CA: others + "/client/ca.pem"}, "not signed by the CA in " + others},
		"another name":               {away, broker.Credentials{CA: elsewhere + "/client/ca.pem"}, "of other names than 127.0.0.1"},
		"a certificate of one's own": {mutual, broker.Credentials{CA: ca, Cert: own + "/nodes/node.pem", Key: own + "/nodes/node.key"}, ""},
		"no certificate":             {mutual, broker.Credentials{CA: ca}, "--nats-cert and --nats-key-file"},
		"another's certificate":      {mutual, broker.Credentials{CA: ca, Cert: others + "/nodes/node.pem", Key: others + "/nodes/node.key"}, "does not accept the certificate in " + others},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := c.at.connect(c.as)
			switch {
			case c.want == "" && (err != nil || !conn.NC.IsConnected()), c.want != "" && err != nil && !strings.Contains(err.Error(), c.want):
				t.Errorf("%v, want %q", err, c.want)
			case c.want != "" && err == nil: // the connection broke before the reason came: it goes on trying
				brokertest.Eventually(t, 20*time.Second, c.want, func() bool { return strings.Contains(c.at.log.String(), c.want) })
			}
		})
	}
}

// A CA, and the certificates by it, are replaced while connections last.
func TestARotatedCANeedsNoRestart(t *testing.T) {
	former, next := authority(t), authority(t)
	dir := t.TempDir()
	copyTo := func(from string) {
		for _, name := range []string{"node.pem", "node.key"} {
			text, err := os.ReadFile(filepath.Join(from, "nodes", name))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, name), string(text))
		}
	}
	copyTo(former)
	text := fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n", dir+"/node.pem", dir+"/node.key")
	g := guard(t, text)
	trusted := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, "client", "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ca := put(t, filepath.Join(t.TempDir(), "ca.pem"), trusted(former))
	c, err := g.connect(broker.Credentials{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "it is connected", func() bool { return g.NumClients() == 1 })
	copyTo(next)
	g.reload(text + "authorization { user: nobody, password: nobodys }\n") // disconnects all
	brokertest.Eventually(t, 20*time.Second, "the server is not trusted", func() bool { return strings.Contains(g.log.String(), "not signed by the CA in "+ca) })
	put(t, ca, trusted(former)+trusted(next))
	g.reload(text)
	brokertest.Eventually(t, 30*time.Second, "it is back", func() bool { return g.NumClients() == 1 && c.NC.IsConnected() })
}
