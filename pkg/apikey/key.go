package apikey

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"spillway/pkg/job"
)

// Scope is what a key may be used for.
type Scope string

// The scopes.
const (
	// Submit is for new requests, and for cancelling them.
	Submit Scope = "submit"
	// Read is for states, results and streams.
	Read Scope = "read"
)

// The errors of this package that a caller tells apart. None has a secret or a token in its text.
var (
	ErrUnknown = errors.New("no such API key")
	ErrRevoked = errors.New("the API key was revoked")
	ErrForged  = errors.New("the token is none that was signed here")
	ErrExpired = errors.New("the token has expired")
)

// Key is an API key without its secret.
type Key struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Tasks are those that it is for; none: all.
	Tasks  []string `json:"tasks,omitempty"`
	Scopes []Scope  `json:"scopes"`
	// Rate is in requests a second; 0: unlimited. Burst is how many may come at once, at least 1 unless Rate is 0.
	Rate  float64 `json:"rate"`
	Burst int     `json:"burst"`

	CreatedAt time.Time `json:"created_at"`
	// RevokedAt is zero while the key is in force.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// May reports whether the key is for s and for a task; an empty task asks for the scope alone. That the key is in
// force is for the ring to say.
func (k *Key) May(s Scope, task string) bool {
	return slices.Contains(k.Scopes, s) && (task == "" || len(k.Tasks) == 0 || slices.Contains(k.Tasks, task))
}

// Revoked reports whether the key is no longer in force.
func (k *Key) Revoked() bool { return !k.RevokedAt.IsZero() }

// Spec is what a new key shall be. Its fields are those of Key; a Burst of 0 stands for twice the rate.
type Spec struct {
	Name, Tenant string
	Tasks        []string
	Scopes       []Scope
	Rate         float64
	Burst        int
}

const (
	maxTasks = 100
	maxRate  = 1e6
)

var taskPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// Check returns all faults of s at once.
func (s Spec) Check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !job.IsLabel(s.Name) {
		fault("the name %q must match [A-Za-z0-9_.@:=/-]{1,128}", job.Cut(s.Name, 80))
	}
	if !job.IsLabel(s.Tenant) {
		fault("the tenant %q must match [A-Za-z0-9_.@:=/-]{1,128}", job.Cut(s.Tenant, 80))
	}
	if len(s.Tasks) > maxTasks {
		fault("a key names at most %d tasks, not %d; one without tasks is for all", maxTasks, len(s.Tasks))
	}
	for _, task := range s.Tasks {
		if !taskPattern.MatchString(task) {
			fault("the task %q must match [a-z0-9-]{1,32}", job.Cut(task, 80))
		}
	}
	if len(s.Scopes) == 0 {
		fault("a key without a scope is for nothing: give it %s, %s or both", Submit, Read)
	}
	for _, scope := range s.Scopes {
		if scope != Submit && scope != Read {
			fault("a scope is %s or %s, not %q", Submit, Read, job.Cut(string(scope), 80))
		}
	}
	if !(s.Rate >= 0 && s.Rate <= maxRate) { // written so that NaN is refused
		fault("the rate is in requests a second, from 0 (unlimited) to %.0f, not %v", maxRate, s.Rate)
	}
	if s.Burst < 0 || s.Burst > maxRate || s.Rate == 0 && s.Burst != 0 {
		fault("the burst is how many requests may come at once, from 0 (twice the rate) to %.0f, and 0 without a rate; not %d", maxRate, s.Burst)
	}
	return errors.Join(faults...)
}

// key is a new key as s describes it.
func (s Spec) key(id string, now time.Time) Key {
	k := Key{
		ID: id, Name: s.Name, Tenant: s.Tenant, Tasks: distinct(s.Tasks), Scopes: distinct(s.Scopes),
		Rate: s.Rate, Burst: s.Burst, CreatedAt: now.UTC().Truncate(time.Second),
	}
	if k.Burst == 0 {
		k.Burst = int(math.Ceil(2 * s.Rate))
	}
	return k
}

// distinct is sorted and has each value once.
func distinct[T ~string](list []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
