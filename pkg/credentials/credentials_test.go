package credentials_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats.go"

	"spillway/pkg/credentials"
)

func made(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "credentials")
	if _, err := credentials.Create(dir, []string{"nats-1", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// publicOf is what the client library says to be a seed's public key.
func publicOf(t *testing.T, path ...string) string {
	t.Helper()
	option, err := nats.NkeyOptionFromSeed(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	var o nats.Options
	if err := option(&o); err != nil {
		t.Fatal(err)
	}
	return o.Nkey
}

// known are the users.conf's variables, as a server reads them.
func known(t *testing.T, dir string) map[string]any {
	t.Helper()
	variables, err := conf.ParseFile(filepath.Join(dir, "nodes", "users.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return variables
}

func TestSecretsAreForTheirOwnerAloneAndTheServersHaveNone(t *testing.T) {
	dir := made(t)
	var seeds []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := read(t, path)
		isSecret := strings.HasPrefix(text, "S") || strings.Contains(text, "PRIVATE KEY")
		if want := map[bool]fs.FileMode{true: 0o600, false: 0o644}[isSecret]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, not %v", path, info.Mode(), want)
		}
		if strings.HasPrefix(text, "S") {
			seeds = append(seeds, strings.TrimSpace(text))
		}
		return nil
	})
	if err != nil || len(seeds) != 4 || len(slices.Compact(slices.Sorted(slices.Values(seeds)))) != 4 {
		t.Fatalf("%d seeds, %v", len(seeds), err)
	}
	want := map[string]any{
		"SERVICE": publicOf(t, dir, "service/service.nk"), "SERVICE_NEXT": publicOf(t, dir, "next/service.nk"),
		"CLIENT": publicOf(t, dir, "client/client.nk"), "CLIENT_NEXT": publicOf(t, dir, "next/client.nk"),
	}
	got := known(t, dir)
	for name, public := range want {
		if got[name] != public {
			t.Errorf("the servers know %v as %s, the seed's is %v", got[name], name, public)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the servers are told %v", got)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := made(t)
	seed := read(t, dir, "service/service.nk")
	for _, there := range []string{"", "service/service.nk", "ca.key", "nodes/users.conf"} {
		if there != "" { // only this one is left
			dir = t.TempDir()
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, there)), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, there), []byte(seed), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := count(t, dir)
		_, err := credentials.Create(dir, []string{"nats-1"})
		if !errors.Is(err, credentials.ErrExists) || !strings.Contains(err.Error(), there) {
			t.Errorf("%q: %v", there, err)
		}
		if after := count(t, dir); after != before {
			t.Errorf("%q: there were %d files, and are %d", there, before, after)
		}
	}
}

func count(t *testing.T, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestARotatedUserHasTheKeyThatTheServersKnowAlready(t *testing.T) {
	dir := made(t)
	before := known(t, dir)
	others := read(t, dir, "client/client.nk")
	if err := credentials.Rotate(dir, credentials.Service); err != nil {
		t.Fatal(err)
	}
	if now := publicOf(t, dir, "service/service.nk"); now != before["SERVICE_NEXT"] || now == before["SERVICE"] {
		t.Errorf("the service is %s now; the servers knew %v", now, before)
	}
	after := known(t, dir)
	if after["SERVICE"] != before["SERVICE_NEXT"] || after["SERVICE_NEXT"] != publicOf(t, dir, "next/service.nk") || after["SERVICE_NEXT"] == before["SERVICE_NEXT"] {
		t.Errorf("the servers knew %v, and know %v", before, after)
	}
	if after["CLIENT"] != before["CLIENT"] || read(t, dir, "client/client.nk") != others {
		t.Error("the client was rotated too")
	}
	if err := credentials.Rotate(dir, "nobody"); err == nil || !strings.Contains(err.Error(), "service, client") {
		t.Errorf("a user that is none: %v", err)
	}
}

func TestARenewedCertificateIsOfTheSameAuthority(t *testing.T) {
	dir := made(t)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(read(t, dir, "client/ca.pem"))) {
		t.Fatal("the client's ca.pem has no certificate")
	}
	former := node(t, dir)
	if err := credentials.Renew(dir, []string{"nats-1", "nats-9"}); err != nil {
		t.Fatal(err)
	}
	now := node(t, dir)
	if now.SerialNumber.Cmp(former.SerialNumber) == 0 || now.VerifyHostname("nats-9") != nil || former.VerifyHostname("nats-9") == nil {
		t.Errorf("the certificate is of %v, and was of %v", now.DNSNames, former.DNSNames)
	}
	for _, c := range []*x509.Certificate{former, now} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			in := x509.VerifyOptions{DNSName: "nats-1", Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: time.Now().AddDate(1, 11, 0)}
			if _, err := c.Verify(in); err != nil {
				t.Errorf("in almost two years: %v", err)
			}
		}
	}
}

func node(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "nodes/node.pem"), filepath.Join(dir, "nodes/node.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}
