package apikey

import (
	"crypto/rand"
	"encoding/base64"
	"regexp"
	"strings"
)

// The parts of a secret, as doc.go has them.
const (
	secretPrefix = "sk_"
	idLength     = 12
	randomBytes  = 32
	secretLength = len(secretPrefix) + idLength + len("_") + (randomBytes*8+5)/6
)

var idPattern = regexp.MustCompile(`^[a-z2-7]{12}$`)

// IsKeyID reports whether s can be the id of a key.
func IsKeyID(s string) bool { return idPattern.MatchString(s) }

func newSecret() (secret, id string) {
	id = strings.ToLower(rand.Text()[:idLength])
	return secretPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(randomKey()), id
}

// randomKey is 32 random bytes.
func randomKey() []byte {
	key := make([]byte, randomBytes)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	return key
}

// idOf returns the id that a secret names; "" when it cannot be a secret.
func idOf(secret string) string {
	if len(secret) != secretLength || !strings.HasPrefix(secret, secretPrefix) {
		return ""
	}
	id, _, _ := strings.Cut(secret[len(secretPrefix):], "_")
	if !IsKeyID(id) {
		return ""
	}
	return id
}
