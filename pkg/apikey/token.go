package apikey

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"spillway/pkg/job"
)

// Grant is what a token allows: to read one job, or one session, of a tenant, until a time.
type Grant struct {
	Tenant string
	// Job or Session, one of them.
	Job, Session string
	// KeyID is the key that asked for the token; it does not outlive that key.
	KeyID string
	// Until is kept to the second, rounded up.
	Until time.Time
}

const (
	tokenVersion = "v1."
	// maxToken is longer than any token: its five lines have at most 300 bytes.
	maxToken = 512
	maxEnd   = 253402300799
	// Skew is by how much the clocks of replicas may differ: a token is taken for so much longer than it says.
	Skew = 30 * time.Second
)

// The first line of a payload.
const (
	ofJob     = "job"
	ofSession = "session"
)

// Sign returns a token for g. The key must be in force, and of g's tenant: ErrUnknown, ErrRevoked.
func (r *Ring) Sign(g Grant) (string, error) {
	if err := g.check(); err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	k, err := r.Key(g.KeyID)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	if k.Tenant != g.Tenant {
		return "", fmt.Errorf("sign a token: API key %s is not of the tenant %s", g.KeyID, g.Tenant)
	}
	seals := r.sealed()
	if len(seals) == 0 {
		return "", errors.New("sign a token: there is no key for it yet; `spillway key rotate` makes one at once")
	}
	head := tokenVersion + base64.RawURLEncoding.EncodeToString([]byte(g.payload()))
	return head + "." + seals[0].mac(head), nil
}

// Verify returns what a token allows. ErrForged: it was not signed here, or long ago; ErrExpired; ErrRevoked: its key
// is no longer in force.
func (r *Ring) Verify(token string, now time.Time) (Grant, error) {
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 || len(token) > maxToken || !strings.HasPrefix(token, tokenVersion) {
		return Grant{}, ErrForged
	}
	head, mac := token[:dot], token[dot+1:]
	isGenuine := false
	for _, s := range r.sealed() {
		// The texts are compared, not what they decode to: each token has one spelling.
		if hmac.Equal([]byte(mac), []byte(s.mac(head))) {
			isGenuine = true
		}
	}
	if !isGenuine {
		return Grant{}, ErrForged
	}
	g, err := parsePayload(strings.TrimPrefix(head, tokenVersion))
	if err != nil {
		return Grant{}, ErrForged
	}
	if now.After(g.Until.Add(Skew)) {
		return Grant{}, ErrExpired
	}
	if k, err := r.Key(g.KeyID); err != nil || k.Tenant != g.Tenant {
		return Grant{}, ErrRevoked
	}
	return g, nil
}

func (r *Ring) sealed() []seal {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.seals
}

func (s seal) mac(head string) string {
	h := hmac.New(sha256.New, s.Key)
	h.Write([]byte(head))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// check keeps everything out of a token that could be read in two ways.
func (g Grant) check() error {
	switch {
	case (g.Job == "") == (g.Session == ""):
		return errors.New("it is for a job or a session, one of them")
	case g.Job != "" && !job.IsID(g.Job):
		return fmt.Errorf("%q is no id", job.Cut(g.Job, 80))
	case g.Session != "" && !job.IsLabel(g.Session):
		return fmt.Errorf("%q is no session", job.Cut(g.Session, 80))
	case !job.IsLabel(g.Tenant):
		return fmt.Errorf("%q is no tenant", job.Cut(g.Tenant, 80))
	case !IsKeyID(g.KeyID):
		return errors.New("it needs the id of a key")
	case g.Until.Unix() <= 0 || g.Until.Unix() > maxEnd:
		return errors.New("it needs an end, before the year 10000")
	}
	return nil
}

// payload is the five lines of doc.go.
func (g Grant) payload() string {
	kind, name := ofJob, g.Job
	if g.Session != "" {
		kind, name = ofSession, g.Session
	}
	until := g.Until.Add(time.Second - 1).Unix()
	return strings.Join([]string{kind, name, g.Tenant, g.KeyID, strconv.FormatInt(until, 10)}, "\n")
}

func parsePayload(text string) (Grant, error) {
	payload, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Grant{}, err
	}
	lines := strings.Split(string(payload), "\n")
	if len(lines) != 5 {
		return Grant{}, fmt.Errorf("%d lines, not 5", len(lines))
	}
	until, err := strconv.ParseInt(lines[4], 10, 64)
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Tenant: lines[2], KeyID: lines[3], Until: time.Unix(until, 0).UTC()}
	switch lines[0] {
	case ofJob:
		g.Job = lines[1]
	case ofSession:
		g.Session = lines[1]
	default:
		return Grant{}, fmt.Errorf("it is for a %q", lines[0])
	}
	if g.payload() != string(payload) {
		return Grant{}, errors.New("its end is not written as it should be")
	}
	return g, g.check()
}
