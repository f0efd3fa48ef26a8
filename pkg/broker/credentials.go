package broker

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"
)

// Credentials say as whom to connect, and whom to trust. All are files, so that no secret stands in an address, and all
// are read again at each reconnect, so that a rotated secret needs no restart. None: what the URL says.
type Credentials struct {
	// Creds has a user's JWT and seed, as nsc writes them; Nkey a user's seed alone.
	Creds, Nkey string
	// PasswordFile has the password of User, who may stand in the URL instead.
	User, PasswordFile string
	// CA has the certificates by which the server's must be signed, PEM; "": those that this machine trusts.
	CA string
	// Cert and Key are a certificate of the client's own, PEM, for servers that ask for one.
	Cert, Key string
}

// identity is who this process is for the server.
type identity struct {
	Credentials
	url string
	log zerolog.Logger

	// nc takes the key of a seed that was rotated; nil before the first connection.
	nc atomic.Pointer[nats.Conn]

	mu     sync.Mutex
	secret secret
	faulty string // what was wrong with the file at the last look
	told   refusals
}

// secret is what one reading of the file gave.
type secret struct {
	jwt      string
	key      nkeys.KeyPair
	public   string
	password string
}

func newIdentity(o ConnectOptions) (*identity, error) {
	id := &identity{Credentials: o.As, url: o.URL, log: o.Log}
	faults := errors.Join(id.check(), id.takeUser(), id.checkTLS())
	var err error
	if id.secret, err = id.read(); err != nil || faults != nil {
		return nil, errors.Join(faults, err)
	}
	for _, file := range []string{o.As.Creds, o.As.Nkey, o.As.PasswordFile, o.As.Key} {
		id.warnOfReaders(file)
	}
	return id, nil
}

// check finds what does not go together.
func (id *identity) check() error {
	var ways []string
	for flag, given := range map[string]string{"--nats-creds": id.Creds, "--nats-nkey": id.Nkey, "--nats-password-file": id.PasswordFile} {
		if given != "" {
			ways = append(ways, flag)
		}
	}
	switch {
	case len(ways) > 1:
		return errors.New("--nats-creds, --nats-nkey and --nats-password-file are three ways to say who connects: give one of them")
	case id.User != "" && id.PasswordFile == "":
		return errors.New("--nats-user needs --nats-password-file")
	case (id.Cert == "") != (id.Key == ""):
		return errors.New("--nats-cert and --nats-key-file go together")
	}
	return nil
}

// takeUser finds the user of a password in the URL, and takes it from there: the client library would take a lone user
// for a token, and would let one in the URL win over all files.
func (id *identity) takeUser() error {
	if id.Creds == "" && id.Nkey == "" && id.PasswordFile == "" {
		return nil
	}
	servers := strings.Split(id.url, ",")
	for i, server := range servers {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err != nil {
			return fmt.Errorf("%s is no address of a NATS server, which is like nats://host:4222", RedactURLs(server))
		}
		if u.User != nil {
			_, hasPassword := u.User.Password()
			name := u.User.Username()
			if id.PasswordFile == "" || hasPassword || id.User != "" && id.User != name {
				return fmt.Errorf("%s says who connects, and so does a file: leave one of them out", RedactURLs(server))
			}
			id.User, u.User = name, nil
		}
		servers[i] = u.String()
	}
	if id.PasswordFile != "" && id.User == "" {
		return errors.New("--nats-password-file needs a user: say --nats-user, or nats://USER@host:4222")
	}
	id.url = strings.Join(servers, ",")
	return nil
}

// options make the client library ask for the secret at each connect. It offers no way to replace an nkey but its
// options, which nobody else reads while it chooses the server to connect to again.
func (id *identity) options() []nats.Option {
	options := []nats.Option{nats.ReconnectToServer(func([]nats.Server, nats.ServerInfo) (*nats.Server, time.Duration) {
		nc := id.nc.Load()
		if nc == nil {
			return nil, 0
		}
		if id.Nkey != "" {
			nc.Opts.Nkey = id.current().public
		}
		go id.tellRefusal(nc) // it needs a lock that is held here
		return nil, 0         // whichever is next
	})}
	sign := func(nonce []byte) ([]byte, error) { return id.last().key.Sign(nonce) }
	switch {
	case id.Creds != "":
		options = append(options, nats.UserJWT(func() (string, error) { return id.current().jwt, nil }, sign))
	case id.Nkey != "":
		options = append(options, nats.Nkey(id.last().public, sign))
	case id.PasswordFile != "":
		options = append(options, nats.UserInfoHandler(func() (user, password string) { return id.User, id.current().password }))
	}
	if id.CA != "" {
		options = append(options, nats.RootCAs(id.CA))
	}
	if id.Cert != "" {
		options = append(options, nats.ClientCert(id.Cert, id.Key))
	}
	return options
}

// current reads the file. One that can not be read changes nothing: it may just be written.
func (id *identity) current() secret {
	s, err := id.read()
	id.mu.Lock()
	defer id.mu.Unlock()
	if err == nil {
		id.secret, id.faulty = s, ""
	} else if text := err.Error(); text != id.faulty {
		id.faulty = text
		id.log.Warn().Err(err).Msg("the secret for NATS cannot be read, the one before stays in use")
	}
	return id.secret
}

func (id *identity) last() secret {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.secret
}

// read takes the secret from its file. No error of it repeats what the file holds.
func (id *identity) read() (secret, error) {
	switch {
	case id.Creds != "":
		return readCreds(id.Creds)
	case id.Nkey != "":
		return readSeed(id.Nkey)
	case id.PasswordFile != "":
		text, err := readSecret("nats-password-file", id.PasswordFile)
		if err != nil {
			return secret{}, err
		}
		return secret{password: string(text)}, nil
	}
	return secret{}, nil
}

// readSecret reads a file, without the white space around its text.
func readSecret(flag, path string) ([]byte, error) {
	if isSeed(path) {
		return nil, fmt.Errorf("--%s is a file with a secret, not the secret itself: write it to a file that nobody else may read", flag)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --%s: %w: mount the secret there, or correct the path", flag, err)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return nil, fmt.Errorf("--%s: %s is empty", flag, path)
	}
	return text, nil
}

// isSeed reports whether a path, or its last part, is what seeds look like.
func isSeed(path string) bool {
	text := path[strings.LastIndex(path, "/")+1:]
	return len(text) == 58 && strings.HasPrefix(text, "S")
}

func readSeed(path string) (secret, error) {
	text, err := readSecret("nats-nkey", path)
	switch {
	case err != nil:
		return secret{}, err
	case bytes.Contains(text, []byte("BEGIN NATS USER JWT")):
		return secret{}, fmt.Errorf("%s has a JWT and a seed: give it with --nats-creds", path)
	case nkeys.IsValidPublicKey(string(text)):
		return secret{}, fmt.Errorf("%s has a public key, which belongs in the server's configuration; --nats-nkey is the file with its seed, which begins with SU", path)
	}
	return secretOf(path, text)
}

func readCreds(path string) (secret, error) {
	text, err := readSecret("nats-creds", path)
	if err != nil {
		return secret{}, err
	}
	jwt, err := nkeys.ParseDecoratedJWT(text)
	if err != nil || !strings.HasPrefix(jwt, "eyJ") {
		if _, ok := secretOf(path, text); ok == nil {
			return secret{}, fmt.Errorf("%s has a seed without a JWT: give it with --nats-nkey", path)
		}
		return secret{}, fmt.Errorf("%s has no JWT: --nats-creds is a file like `nsc generate creds` writes it", path)
	}
	s, err := secretOf(path, text)
	s.jwt = jwt
	return s, err
}

// secretOf finds a user's seed in a text.
func secretOf(path string, text []byte) (secret, error) {
	pair, err := nkeys.ParseDecoratedNKey(bytes.ReplaceAll(text, []byte("\r"), nil))
	if err != nil {
		return secret{}, fmt.Errorf("%s has no seed of a user, which begins with SU and has 58 characters", path)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return secret{}, fmt.Errorf("%s: take the public key from the seed: %w", path, err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		kind := map[byte]string{'A': "an account", 'O': "an operator"}[public[0]]
		return secret{}, fmt.Errorf("the seed in %s is of %s, not of a user: it must begin with SU", path, kind)
	}
	return secret{key: pair, public: public}, nil
}

// warnOfReaders says when everybody on this machine can read a secret.
func (id *identity) warnOfReaders(path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
		id.log.Warn().Str("file", path).Msg("everybody on this machine can read this secret for NATS: chmod 600 it")
	}
}
