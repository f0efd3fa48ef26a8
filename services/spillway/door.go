package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
	"spillway/services"
	"spillway/services/ingest"
	"spillway/services/ingest/door"
)

// doorFlags are those of a process that has an HTTP door.
type doorFlags struct {
	NoHTTP     bool     `name:"no-http" help:"No door: nobody submits over HTTP here. Health and metrics stay."`
	Metrics    string   `help:"Address of the metrics where --http is not on loopback; off: none." default:"off" placeholder:"ADDR"`
	PublicURL  string   `name:"public-url" help:"What the addresses in answers begin with, https://llm.example.com; default: as the client came." placeholder:"URL"`
	CORSOrigin []string `name:"cors-origin" help:"Origin of pages that may call the door from a browser, https://app.example.com; * is any. Repeatable." placeholder:"ORIGIN"`
	TLSCert    string   `name:"tls-cert" help:"Certificate of the door, PEM; read again when it changes." type:"path" placeholder:"FILE"`
	TLSKey     string   `name:"tls-key" help:"Its private key, PEM." type:"path" placeholder:"FILE"`
}

// check finds what is wrong with the flags themselves.
func (f doorFlags) check() error {
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return exit(exitUsage, "--tls-cert and --tls-key go together")
	}
	if u, err := url.Parse(f.PublicURL); f.PublicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "") {
		return exit(exitUsage, "--public-url is like https://llm.example.com, not %q", f.PublicURL)
	}
	for _, origin := range f.CORSOrigin {
		if u, err := url.Parse(origin); origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "") {
			return exit(exitUsage, "--cors-origin is like https://app.example.com, or *, not %q", origin)
		}
	}
	return nil
}

// serve serves the door beside health and, on loopback, the metrics.
func (f doorFlags) serve(ctx context.Context, address string, p *process, conn *broker.Conn) (*webServer, error) {
	if f.NoHTTP || isOff(address) {
		return serveHTTP(address, p, conn)
	}
	certificate, err := f.certificate(p.env.Log)
	if err != nil {
		return nil, err
	}
	l, err := listen("http", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	p.healthOn(mux, conn)
	w := &webServer{}
	if isLoopback(l.Addr()) {
		p.metricsOn(mux)
	} else if err := w.serveMetrics(f.Metrics, p); err != nil {
		l.Close()
		return nil, err
	}
	closeDoor, err := f.open(ctx, p, conn, isLoopback(l.Addr()))
	if err != nil {
		l.Close()
		w.close()
		return nil, err
	}
	handler := beside(ownOnly(l, mux), p.door.Handler())
	more, scheme := append(w.more, closeDoor), "http"
	if certificate != nil {
		l, scheme = tls.NewListener(l, certificate), "https"
	}
	w = p.serveOn(l, handler)
	w.more, w.scheme = more, scheme
	return w, nil
}

func (w *webServer) serveMetrics(address string, p *process) error {
	l, err := listen("metrics", address)
	if l == nil {
		return err
	}
	mux := http.NewServeMux()
	p.metricsOn(mux)
	w.more = append(w.more, p.serveOn(l, ownOnly(l, mux)).close)
	return nil
}

// open makes the door of this process. Without any key it is for loopback alone: elsewhere nobody may come in.
func (f doorFlags) open(ctx context.Context, p *process, conn *broker.Conn, loopback bool) (closeDoor func(), err error) {
	log := p.env.Log.With().Str("from", "door").Logger()
	ring, err := apikey.Follow(ctx, conn, log)
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	made, err := apikey.List(ctx, conn)
	switch {
	case err != nil:
		ring.Close()
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	var stages []string
	for _, d := range services.Pipeline() {
		stages = append(stages, d.Name)
	}
	p.door, err = door.New(ctx, door.Options{
		Conn: conn, Desk: ingest.NewDesk(conn, p.env.Versions, log), Tasks: p.env.Versions, Stages: stages,
		Keys: ring, Open: loopback && len(made) == 0, PublicURL: f.PublicURL, Origins: f.CORSOrigin, Metrics: p.registry, Log: log,
	})
	if err != nil {
		ring.Close()
		return nil, err
	}
	if p.door.IsLocked() {
		log.Warn().Msg("there is no API key, the door lets nobody in; make one while this runs: " + door.FirstKey)
	}
	return func() {
		p.door.Close()
		ring.Close()
	}, nil
}

// isLoopback reports whether nobody but this machine reaches an address.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// certificate is nil without TLS.
func (f doorFlags) certificate(log zerolog.Logger) (*tls.Config, error) {
	if f.TLSCert == "" {
		return nil, nil
	}
	c := &certificate{certFile: f.TLSCert, keyFile: f.TLSKey, log: log}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("read --tls-cert and --tls-key: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(time.Now()), nil },
	}, nil
}

// certificate follows the files that it was read from.
type certificate struct {
	certFile, keyFile string
	log               zerolog.Logger

	mu     sync.Mutex
	now    *tls.Certificate
	seen   [2]os.FileInfo
	looked time.Time
}

// certificateLookEvery is how often the files are looked at, at most.
const certificateLookEvery = 5 * time.Second

// current returns the certificate, read anew if its files changed. Files that cannot be read change nothing.
func (c *certificate) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < certificateLookEvery {
		return c.now
	}
	c.looked = now
	if files, err := c.files(); err == nil && isSameFile(files[0], c.seen[0]) && isSameFile(files[1], c.seen[1]) {
		return c.now
	}
	if err := c.readLocked(); err != nil {
		c.log.Error().Err(err).Msg("the door's new certificate cannot be read, the one before stays in use")
	}
	return c.now
}

func (c *certificate) read() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readLocked()
}

func (c *certificate) readLocked() error {
	files, err := c.files()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.now, c.seen = &pair, files
	return nil
}

func (c *certificate) files() (found [2]os.FileInfo, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if found[i], err = os.Stat(name); err != nil {
			return found, err
		}
	}
	return found, nil
}

// isSameFile reports whether a file is the one that was seen, unchanged. What is put in its place may be older.
func isSameFile(now, seen os.FileInfo) bool {
	return os.SameFile(now, seen) && now.Size() == seen.Size() && now.ModTime().Equal(seen.ModTime())
}
