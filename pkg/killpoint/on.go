//go:build killpoints

// Package killpoint marks the places where the crash tests kill a process.
//
// SPILLWAY_KILLPOINT=name:n kills this process with SIGKILL when it passes the place called name for the
// n-th time. SPILLWAY_PLANT=name switches a deliberate bug on.
package killpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var passed atomic.Int64

// Here dies when the environment says so.
func Here(name string) {
	at, n, ok := strings.Cut(os.Getenv("SPILLWAY_KILLPOINT"), ":")
	if !ok || at != name {
		return
	}
	if count, err := strconv.ParseInt(n, 10, 64); err == nil && passed.Add(1) == count {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// Planted reports whether a deliberate bug is switched on.
func Planted(name string) bool { return os.Getenv("SPILLWAY_PLANT") == name }
