package inference

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// noKey in api_key says that the provider wants none.
const noKey = "none"

// keys are a provider's API keys: usually one. Of several, calls take turns, and one that the provider refuses
// is set aside for a while. Those that stand in a file are read again whenever it changes, so that a rotated
// secret needs no restart.
type keys struct {
	path string

	mu    sync.Mutex
	all   []string
	next  int
	aside map[string]time.Time // until when
	// former are keys that were in use before: a late answer may repeat one.
	former []string
	seen   os.FileInfo
	// The file is looked at again once every has passed since looked.
	looked time.Time
	every  time.Duration
}

// maxFormer bounds the keys that are remembered.
const maxFormer = 16

// lookEvery is how often a key file is looked at.
const lookEvery = time.Second

// isOfKey reports whether another key may do better than the one that was refused with code.
func isOfKey(code fate.Code) bool {
	return code == fate.ProviderAuth || code == fate.ProviderQuota || code == fate.ProviderRateLimited
}

// several reports whether there are keys to choose from.
func (k *keys) several() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.all) > 1
}

// keyRest is how long a key is set aside that was refused while another may be taken.
const keyRest = time.Minute

func newKeys(env *stage.Env, from *task.Provider) (*keys, error) {
	switch {
	case from.Kind == task.KindSimulated, from.APIKey == noKey:
		return &keys{}, nil
	case from.APIKeyFile != "":
		k := &keys{path: from.APIKeyFile, every: lookEvery}
		if err := k.read(); err != nil {
			return nil, fmt.Errorf("no API key in api_key_file %s: mount the secret there, or correct models.yaml: %w", from.APIKeyFile, err)
		}
		return k, nil
	case from.APIKeyEnv == "":
		return nil, errors.New("no API key: set api_key_env or api_key_file in models.yaml, or api_key: none")
	}
	all := splitKeys(env.Getenv(from.APIKeyEnv))
	if len(all) == 0 {
		return nil, fmt.Errorf("no API key: set %s, or api_key: none in models.yaml if it needs none", from.APIKeyEnv)
	}
	if !areHeaderValues(all) {
		return nil, fmt.Errorf("the API key in %s has characters that no header may have: set it again", from.APIKeyEnv)
	}
	return &keys{all: all}, nil
}

// splitKeys takes apart what a file or a variable holds: one key a line, or separated by commas.
func splitKeys(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' || r == ' ' || r == '\t' })
}

// take returns the key for a call at now, "" for none. Of keys that are all set aside it returns the one
// whose rest ends first.
func (k *keys) take(now time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh(now)
	if len(k.all) == 0 {
		return ""
	}
	var soonest string
	for range k.all {
		key := k.all[k.next%len(k.all)]
		k.next++
		until, resting := k.aside[key]
		if !resting || now.After(until) {
			delete(k.aside, key)
			return key
		}
		if soonest == "" || until.Before(k.aside[soonest]) {
			soonest = key
		}
	}
	return soonest
}

// refused sets a key aside and reports whether another one may be taken instead.
func (k *keys) refused(key string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) < 2 {
		return false
	}
	if k.aside == nil {
		k.aside = map[string]time.Time{}
	}
	k.aside[key] = now.Add(keyRest)
	for _, other := range k.all {
		if until, resting := k.aside[other]; !resting || now.After(until) {
			return true
		}
	}
	return false
}

// known returns all keys, to keep them out of messages.
func (k *keys) known() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Concat(k.all, k.former)
}

// refresh reads a file that changed. One that can not be read leaves the last keys in use: a secret that is
// being replaced must not stop the calls. The caller holds k.mu.
func (k *keys) refresh(now time.Time) {
	if k.path == "" || now.Sub(k.looked) < k.every {
		return
	}
	k.looked = now
	file, err := os.Stat(k.path)
	if err == nil && (!os.SameFile(file, k.seen) || file.Size() != k.seen.Size() || !file.ModTime().Equal(k.seen.ModTime())) {
		_ = k.read()
	}
}

func (k *keys) read() error {
	seen, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	all := splitKeys(string(data))
	switch {
	case len(all) == 0:
		return errors.New("the file is empty")
	case !areHeaderValues(all):
		return errors.New("the file has characters that no header may have")
	}
	k.former = append(k.former, k.all...)
	k.former = k.former[max(0, len(k.former)-maxFormer):]
	k.all, k.seen = all, seen
	return nil
}

func areHeaderValues(all []string) bool {
	for _, s := range all {
		if !isHeaderValue(s) {
			return false
		}
	}
	return true
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
	for _, key := range p.keys.known() {
		s = strings.ReplaceAll(s, key, "[key]")
	}
	for _, secret := range p.secrets {
		s = strings.ReplaceAll(s, secret, "[secret]")
	}
	return keyLike.ReplaceAllString(s, "[key]")
}
