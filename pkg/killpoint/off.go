//go:build !killpoints

// Package killpoint marks the places where the crash tests kill a process. In a normal build its functions
// do nothing; with the build tag killpoints they obey the environment (see on.go).
package killpoint

// Here is a place to die at.
func Here(string) {}

// Planted reports whether a deliberate bug is switched on, to show that a test would find it.
func Planted(string) bool { return false }
