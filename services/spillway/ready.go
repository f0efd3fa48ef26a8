package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// probeTimeout is how long a process may take to answer.
const probeTimeout = 5 * time.Second

// readyCmd asks a process beside, as orchestrators do that can only run a command in its container. Its flags are those
// of that process, so that the same variables serve both.
type readyCmd struct {
	HTTP    string `name:"http" help:"Address that the process serves." default:"127.0.0.1:8080" placeholder:"ADDR"`
	TLSCert string `name:"tls-cert" help:"The certificate, if it serves by TLS." type:"path" placeholder:"FILE"`
}

// Run fails with what the process says.
func (c *readyCmd) Run(ctx context.Context, g *globals) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	own := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it never leaves this machine, where the certificate's name leads elsewhere
	defer own.CloseIdleConnections()
	resp, err := (&http.Client{Transport: own}).Do(q)
	if err != nil {
		return fmt.Errorf("no process answers: %w", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("read what %s says: %w", url, err)
	}
	text := strings.TrimSpace(string(said))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", text)
	}
	if g.cli.JSON {
		return g.printJSON(map[string]bool{"ready": true})
	}
	g.printf("%s\n", text)
	return nil
}

// url leads to the process on this machine, on whatever addresses it listens.
func (c *readyCmd) url() (string, error) {
	host, port, err := net.SplitHostPort(c.HTTP)
	if err != nil {
		return "", exit(exitUsage, "--http is like 127.0.0.1:8080, not %q", c.HTTP)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/readyz", nil
}
