package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// tellRefusalEvery is how often the same refusal is logged, at most: a process tries again for ever.
const tellRefusalEvery = time.Minute

// refusals are what the log was told, and when.
type refusals struct {
	text string
	at   time.Time
}

// isRefusal reports whether the server, or this client, does not want the other: waiting does not help.
func isRefusal(err error) bool { return isAuth(err) || isTLS(err) }

func isAuth(err error) bool {
	for _, refusal := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	// A handshake that ends otherwise may have met a server on its way out.
	return errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrSecureConnRequired) || wantsCertificate(err)
}

// wantsCertificate reports whether the server closed because it got no certificate, or a wrong one. With TLS 1.3 it says
// so after the handshake.
func wantsCertificate(err error) bool {
	return err != nil && slices.ContainsFunc([]string{"certificate required", "bad certificate", "unknown certificate authority"}, func(alert string) bool {
		return strings.Contains(err.Error(), "remote error: tls: "+alert)
	})
}

// tellRefusal logs why the server could not be connected to again, if it was for a reason that somebody must mend.
func (id *identity) tellRefusal(nc *nats.Conn) {
	if err := nc.LastError(); isRefusal(err) && nc.IsReconnecting() {
		id.tell(err)
	}
}

func (id *identity) tell(err error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if text := err.Error(); text != id.told.text || time.Since(id.told.at) > tellRefusalEvery {
		id.told = refusals{text: text, at: time.Now()}
		id.log.Error().Err(err).Str("remedy", id.remedyOf(err, id.secret)).Msg("NATS is not to be connected to, trying again")
	}
}

// explain says what to do about an error of connecting.
func (id *identity) explain(err error) error {
	at := RedactURLs(id.url)
	if !isRefusal(err) {
		return fmt.Errorf("connect to NATS at %s: %w (is a server running there? `spillway up` brings its own)", at, err)
	}
	return fmt.Errorf("connect to NATS at %s: %w: %s", at, err, id.remedyOf(err, id.last()))
}

func (id *identity) remedyOf(err error, s secret) string {
	if isAuth(err) {
		return id.remedyOfAuth(s)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if id.CA == "" {
			return "this machine does not trust who signed the server's certificate: give that CA's with --nats-ca FILE"
		}
		return "the server's certificate is not signed by the CA in " + id.CA + ": take the file from where that certificate was made"
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the server's certificate is of other names than " + name.Host + ": connect by one of them, or have this one in it"
	}
	if expired, ok := errors.AsType[x509.CertificateInvalidError](err); ok && expired.Reason == x509.Expired {
		return "renew the server's certificate, and look at this machine's clock"
	}
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the server speaks no TLS, which --nats-ca, --nats-cert and tls:// ask for: give the server a tls block, or leave them out"
	case wantsCertificate(err) && id.Cert == "":
		return "the server wants a certificate of the client: give one with --nats-cert and --nats-key-file"
	case wantsCertificate(err):
		return "the server does not accept the certificate in " + id.Cert + ": is it signed by the CA of the server's tls block?"
	}
	return "see the server's tls block and log"
}

func (id *identity) remedyOfAuth(s secret) string {
	switch {
	case id.Creds != "":
		return "the server does not know the user in " + id.Creds + ", or not any more: is its account there, its JWT neither expired nor revoked, its seed that of the JWT?"
	case id.Nkey != "":
		return "the server has no user with the public key " + s.public + ", whose seed is in " + id.Nkey + ": have it in the server's configuration, and reload that"
	case id.PasswordFile != "":
		return "the server has no user " + id.User + ", or with another password than the one in " + id.PasswordFile
	case strings.Contains(id.url, "@"):
		return "the server does not know the user in the URL, or not with this password"
	}
	return "the server wants to know who connects: give --nats-creds, --nats-nkey or --nats-password-file"
}

// checkTLS looks at the files before the client library does: it says less.
func (id *identity) checkTLS() error {
	var all []error
	for flag, path := range map[string]string{"--nats-ca": id.CA, "--nats-cert": id.Cert, "--nats-key-file": id.Key} {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			all = append(all, fmt.Errorf("read %s: %w: mount the file there, or correct the path", flag, err))
		case !strings.Contains(string(text), "-----BEGIN "):
			all = append(all, fmt.Errorf("%s: %s is not PEM, which begins with -----BEGIN", flag, path))
		case flag == "--nats-ca" && !x509.NewCertPool().AppendCertsFromPEM(text):
			all = append(all, fmt.Errorf("--nats-ca: %s has no certificate that can be read", path))
		}
	}
	return errors.Join(all...)
}
