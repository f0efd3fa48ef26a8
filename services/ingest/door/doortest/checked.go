package doortest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// maxKept bounds what is kept of a stream for the check; what comes after it is not looked at.
const maxKept = 4 << 20

// Checked is a door's handler whose every exchange is held against the documents: the test fails with the first that
// they do not describe. passedOn are the events that the test itself makes up.
func Checked(t testing.TB, h http.Handler, passedOn ...string) http.Handler {
	t.Helper()
	c, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	var inside sync.WaitGroup
	t.Cleanup(inside.Wait) // a WebSocket outlives its server
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside.Add(1)
		defer inside.Done()
		asked := r.Clone(r.Context()) // as it came: handlers write into theirs
		sent := &bytes.Buffer{}
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, sent), r.Body}
		k := &keeper{ResponseWriter: w}
		h.ServeHTTP(k, r)
		e := k.exchange(asked, sent.Bytes())
		if err := errors.Join(c.Check(e), c.CheckTold(e, passedOn)); err != nil {
			t.Errorf("%s %s is answered with %d, which is not as described: %v\n%.2000q", r.Method, r.URL.Path, e.Status, err, e.Received)
		}
	})
}

// keeper keeps what is answered.
type keeper struct {
	http.ResponseWriter
	status int
	header http.Header

	mu   sync.Mutex
	body bytes.Buffer
	full bool
}

// Unwrap is for http.ResponseController.
func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *keeper) WriteHeader(status int) {
	if k.status == 0 {
		k.status, k.header = status, k.Header().Clone()
	}
	k.ResponseWriter.WriteHeader(status)
}

func (k *keeper) Write(b []byte) (int, error) {
	if k.status == 0 {
		k.status, k.header = http.StatusOK, k.Header().Clone()
	}
	k.keep(b)
	return k.ResponseWriter.Write(b)
}

func (k *keeper) keep(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full = k.full || k.body.Len()+len(b) > maxKept; !k.full {
		k.body.Write(b)
	}
}

// Hijack keeps what a WebSocket says.
func (k *keeper) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(k.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	kept := &keptConn{conn, k}
	return kept, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(kept)), nil
}

type keptConn struct {
	net.Conn
	k *keeper
}

func (c *keptConn) Write(b []byte) (int, error) {
	c.k.keep(b)
	return c.Conn.Write(b)
}

func (k *keeper) exchange(asked *http.Request, sent []byte) *Exchange {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status == 0 {
		k.status, k.header = http.StatusOK, k.Header().Clone()
	}
	return &Exchange{Request: asked, Sent: sent, Status: k.status, Header: k.header, Received: bytes.Clone(k.body.Bytes())}
}
