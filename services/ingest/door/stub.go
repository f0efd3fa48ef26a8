package door

// This file stands in for sse.go and socket.go.

import "net/http"

func (d *Door) jobEvents(w http.ResponseWriter, _ *http.Request)     { notFound("").write(w) }
func (d *Door) jobSocket(w http.ResponseWriter, _ *http.Request)     { notFound("").write(w) }
func (d *Door) sessionEvents(w http.ResponseWriter, _ *http.Request) { notFound("").write(w) }
func (d *Door) sessionSocket(w http.ResponseWriter, _ *http.Request) { notFound("").write(w) }
