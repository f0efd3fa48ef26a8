package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

// opened is a running `up` that has said where it is.
type opened struct {
	*running
	HTTP, Door, NATS string
}

func open(t *testing.T, args ...string) opened {
	t.Helper()
	o := opened{running: start(t, append([]string{"up", "--json", "--simulate", "--no-self-check", "--nats-port=-1", "--grace=1s", "--store=" + filepath.Join(t.TempDir(), "s")}, args...)...)}
	brokertest.Eventually(t, 30*time.Second, "up says where it is", func() bool {
		line, _, _ := strings.Cut(o.out.String(), "\n")
		return json.Unmarshal([]byte(line), &o) == nil && o.NATS != ""
	})
	t.Cleanup(func() {
		o.cancel()
		o.wait()
	})
	return o
}

func ask(t *testing.T, client *http.Client, method, url, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			q.Host = headers[i+1]
		}
	}
	resp, err := client.Do(q)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

const example = `{"input":{"text":"hello"}}`

func TestUpHasADoorThatAnswersAndAsksForAKeyOnceThereIsOne(t *testing.T) {
	o := open(t, "--http=127.0.0.1:0", "--cors-origin=http://localhost:5173", "--cors-origin=*", "--public-url=https://llm.example.com")
	o.Door = "http://" + o.HTTP + "/v1"
	jobs := o.Door + "/tasks/analyze/jobs"
	if code, _, said := ask(t, http.DefaultClient, "POST", jobs, example, "Prefer", "wait=20"); code != 200 || !strings.Contains(said, `"status":"succeeded"`) {
		t.Fatalf("%d %s", code, said)
	}
	for name, c := range map[string]struct {
		method, header, value string
		status                int
		allowed               string
	}{
		"a page of this machine":         {"POST", "Origin", "http://localhost:5173", 202, "http://localhost:5173"},
		"its preflight":                  {"OPTIONS", "Origin", "http://localhost:5173", 204, "http://localhost:5173"},
		"a sandboxed page":               {"POST", "Origin", "null", 403, ""},
		"the public name":                {"POST", "Host", "llm.example.com", 403, ""},
		"a page that may not":            {"POST", "Origin", "https://evil.example", 403, ""},
		"a name that leads here":         {"POST", "Host", "evil.example", 403, ""},
		"the preflight of one that not":  {"OPTIONS", "Origin", "https://evil.example", 403, ""},
		"a page of the door's own place": {"POST", "Origin", "http://" + o.HTTP, 202, "http://" + o.HTTP},
	} {
		code, h, said := ask(t, http.DefaultClient, c.method, jobs, example, c.header, c.value, "Access-Control-Request-Method", "POST")
		if code != c.status || h.Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s: %d %v %s", name, code, h, said)
		}
	}
	if code, _, _ := ask(t, http.DefaultClient, "GET", "http://"+o.HTTP+"/metrics", ""); code != 200 {
		t.Errorf("metrics on loopback: %d", code)
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if code, _, said := ask(t, http.DefaultClient, "GET", "http://"+o.HTTP+path, "", "Host", "evil.example"); code != 403 {
			t.Errorf("%s by another name: %d %.100s", path, code, said)
		}
		if code, _, said := ask(t, http.DefaultClient, "GET", "http://"+o.HTTP+path, "", "Host", "localhost:8080"); code != 200 {
			t.Errorf("%s: %d %.100s", path, code, said)
		}
	}
	if code, _, said := ask(t, http.DefaultClient, "GET", "http://"+o.HTTP+"//v1/jobs/x?token=secret", ""); code != 404 || !strings.Contains(said, `"no_such_route"`) {
		t.Errorf("%d %s", code, said)
	}
	conn := brokertest.Connect(t, o.NATS)
	secret, k, err := apikey.Create(t.Context(), conn, apikey.Spec{Name: "a", Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit, apikey.Read}})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the door asks for keys", func() bool {
		code, _, _ := ask(t, http.DefaultClient, "POST", jobs, example)
		return code == 401
	})
	if code, h, said := ask(t, http.DefaultClient, "POST", jobs, example, "Authorization", "Bearer "+secret, "Host", "llm.example.com", "Origin", "https://app.example.com"); code != 202 || h.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("%d %s", code, said)
	}
	if _, err := apikey.Revoke(t.Context(), conn, k.ID); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the key is revoked", func() bool {
		code, _, _ := ask(t, http.DefaultClient, "POST", jobs, example, "Authorization", "Bearer "+secret)
		return code == 401
	})
	if code, _, _ := ask(t, http.DefaultClient, "POST", jobs, example); code != 401 {
		t.Errorf("the last key was revoked, and everybody may come in: %d", code)
	}
}

func TestADoorThatOthersReachLetsNobodyInUntilThereIsAKey(t *testing.T) {
	r := serve(t)
	others := []string{"ingest", "--http=0.0.0.0:0", "--nats=" + r.url}
	alone := start(t, append(others, "--no-http", "--log-level=info", "--log-format=json")...)
	alone.says("stage is ready")
	brokertest.Eventually(t, 20*time.Second, "ingest answers", func() bool {
		_, err := r.conn.NC.Request(broker.CancelSubject("ready"), nil, time.Second)
		return err == nil
	})
	alone.cancel()
	alone.wait().with(exitOK)
	c := start(t, append(others, "--log-level=info", "--log-format=json", "--metrics=127.0.0.1:0", "--no-admit")...)
	c.says("stage is ready")
	_, port, err := net.SplitHostPort(loggedAddress(t, c))
	if err != nil {
		t.Fatal(err)
	}
	at := "http://127.0.0.1:" + port
	if code, _, said := ask(t, http.DefaultClient, "GET", at+"/metrics", ""); code == 200 {
		t.Errorf("everybody reads the metrics: %s", said)
	}
	if code, _, said := ask(t, http.DefaultClient, "GET", at+"/healthz", ""); code != 200 {
		t.Errorf("%d %s", code, said)
	}
	c.says("there is no API key, the door lets nobody in")
	for path, method := range map[string]string{"/v1/tasks/analyze/jobs": "POST", "/v1/jobs/x": "GET", "/v1/jobs/x/cancel": "POST", "/v1/jobs/x/events": "GET", "/v1/jobs/x/ws": "GET", "/v1/sessions/x/events": "GET", "/v1/sessions/x/ws?token=x": "GET"} {
		for _, header := range []string{"", "Bearer sk_0123456789abcdef_nobody"} {
			if code, _, said := ask(t, http.DefaultClient, method, at+path, example, "Authorization", header); code != 401 || !strings.Contains(said, "spillway key create") {
				t.Errorf("%s: %d %s", path, code, said)
			}
		}
	}
	made := r.spillway(t, "key", "create", "web", "--tenant", "acme").with(exitOK)
	brokertest.Eventually(t, 10*time.Second, "the key opens the door", func() bool {
		code, _, _ := ask(t, http.DefaultClient, "POST", at+"/v1/tasks/analyze/jobs", example, "Authorization", "Bearer "+strings.TrimSpace(made.out))
		return code == 202
	})
	if code, _, said := ask(t, http.DefaultClient, "POST", at+"/v1/tasks/analyze/jobs", example); code != 401 || strings.Contains(said, "spillway key create") {
		t.Errorf("%d %s", code, said)
	}
	c.cancel()
	c.wait().with(exitOK)
}

func loggedAddress(t *testing.T, c *running) string {
	t.Helper()
	for line := range strings.Lines(c.err.String()) {
		var said struct{ Message, HTTP string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Message == "stage is ready" {
			return said.HTTP
		}
	}
	t.Fatalf("no address in %s", c.err)
	return ""
}

func TestFlagsOfTheDoorThatCannotBeAreRefused(t *testing.T) {
	for flag, says := range map[string]string{
		"--tls-cert=x.pem": "go together", "--public-url=llm.example.com": "https://llm.example.com", "--cors-origin=app": "https://app.example.com",
	} {
		spillway(t, "up", flag).with(exitUsage, says)
	}
	spillway(t, "ingest", "--no-admit", "--no-http").with(exitUsage, "nothing at all")
}

func TestTheDoorSpeaksTLSAndFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	o := open(t, "--http=127.0.0.1:0", "--tls-cert="+certFile, "--tls-key="+keyFile)
	serial := func() int64 {
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the serial number is what is looked at
		conn, err := dialer.DialContext(context.Background(), "tcp", o.HTTP)
		if err != nil {
			return -1
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if !strings.HasPrefix(o.Door, "https://") || serial() != 1 {
		t.Fatalf("%s, certificate %d", o.Door, serial())
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as above
	defer client.CloseIdleConnections()
	if code, _, said := ask(t, client, "POST", o.Door+"/tasks/analyze/jobs", example); code != 202 || !strings.Contains(said, `"poll_url":"https://`) {
		t.Errorf("%d %s", code, said)
	}
	writeCertificate(t, certFile, keyFile, 2)
	brokertest.Eventually(t, 30*time.Second, "the new certificate is served", func() bool { return serial() == 2 })
	// As a secret's folder is replaced: by files that may be older than those before.
	writeCertificate(t, certFile+".next", keyFile+".next", 3)
	for next, in := range map[string]string{certFile + ".next": certFile, keyFile + ".next": keyFile} {
		if err := errors.Join(os.Chtimes(next, time.Time{}, time.Now().Add(-time.Hour)), os.Rename(next, in)); err != nil {
			t.Fatal(err)
		}
	}
	brokertest.Eventually(t, 30*time.Second, "the older one is served", func() bool { return serial() == 3 })
}

func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
}
