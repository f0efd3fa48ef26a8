package inference

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"

	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// noKey in api_key says that the provider wants none.
const noKey = "none"

// key is a provider's API key. One that stands in a file is read again whenever the file changes, so that
// a rotated secret needs no restart.
type key struct {
	path string

	mu    sync.Mutex
	value string
	seen  os.FileInfo
}

func newKey(env *stage.Env, from *task.Provider) (*key, error) {
	switch {
	case from.Kind == task.KindSimulated, from.APIKey == noKey:
		return &key{}, nil
	case from.APIKeyFile != "":
		k := &key{path: from.APIKeyFile}
		if err := k.read(); err != nil {
			return nil, fmt.Errorf("no API key in api_key_file %s: mount the secret there, or correct models.yaml: %w", from.APIKeyFile, err)
		}
		return k, nil
	case from.APIKeyEnv == "":
		return nil, errors.New("no API key: set api_key_env or api_key_file in models.yaml, or api_key: none")
	}
	value := strings.TrimSpace(env.Getenv(from.APIKeyEnv))
	if value == "" {
		return nil, fmt.Errorf("no API key: set %s, or api_key: none in models.yaml if it needs none", from.APIKeyEnv)
	}
	if !isHeaderValue(value) {
		return nil, fmt.Errorf("the API key in %s has characters that no header may have: set it again", from.APIKeyEnv)
	}
	return &key{value: value}, nil
}

// current returns the key, "" for none. A file that can not be read keeps the last key in use: a secret
// that is being replaced must not stop the calls.
func (k *key) current() string {
	if k.path == "" {
		return k.value
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := os.Stat(k.path)
	if err == nil && (!os.SameFile(now, k.seen) || now.Size() != k.seen.Size() || !now.ModTime().Equal(k.seen.ModTime())) {
		_ = k.read()
	}
	return k.value
}

func (k *key) read() error {
	seen, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	value := strings.TrimSpace(string(data))
	switch {
	case value == "":
		return errors.New("the file is empty")
	case !isHeaderValue(value):
		return errors.New("the file has characters that no header may have")
	}
	k.value, k.seen = value, seen
	return nil
}

// isHeaderValue reports whether s is visible ASCII: what an API key is made of.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// keyLike matches what looks like an API key, or the part of one that providers repeat in their errors.
var keyLike = regexp.MustCompile(`(?i)\b(?:sk|pk|rk|gsk|xai)[-_][\w*.-]{6,}|\bAIza[\w*-]{6,}|\bBearer\s+[\w*.~+/-]{6,}=*`)

// redact takes the secrets out of what a provider said.
func (p *provider) redact(s string) string {
	if key := p.key.current(); key != "" {
		s = strings.ReplaceAll(s, key, "[key]")
	}
	for _, secret := range p.secrets {
		s = strings.ReplaceAll(s, secret, "[secret]")
	}
	return keyLike.ReplaceAllString(s, "[key]")
}
