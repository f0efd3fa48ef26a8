package apikey

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"spillway/pkg/broker"
)

// version of the records that this package writes, and the only one that it reads: a restriction that a later
// version adds must not be overlooked.
const version = 1

// keyPrefix and the id are where the bucket keeps a key.
const keyPrefix = "key."

// record is a key as it is stored.
type record struct {
	V int `json:"v"`
	Key
	SHA256 string `json:"sha256"`
}

// hash is the SHA-256 of a secret.
type hash [sha256.Size]byte

// Create stores a new key and returns its secret, which cannot be had again.
func Create(ctx context.Context, conn *broker.Conn, s Spec) (secret string, k Key, err error) {
	if err := s.Check(); err != nil {
		return "", Key{}, err
	}
	for ctx.Err() == nil {
		secret, id := newSecret()
		k := s.key(id, time.Now())
		sum := sha256.Sum256([]byte(secret))
		data, err := json.Marshal(record{V: version, Key: k, SHA256: hex.EncodeToString(sum[:])})
		if err != nil {
			return "", Key{}, fmt.Errorf("create an API key: %w", err)
		}
		_, err = conn.Swap(ctx, broker.KeysBucket, keyPrefix+id, data, 0)
		if errors.Is(err, broker.ErrConflict) {
			var stored broker.Record // this very one, if the first acknowledgement was lost
			if stored, err = conn.Record(ctx, broker.KeysBucket, keyPrefix+id); err == nil && !bytes.Equal(stored.Data, data) {
				continue
			}
		}
		if err != nil {
			return "", Key{}, fmt.Errorf("create an API key: %w", err)
		}
		return secret, k, nil
	}
	return "", Key{}, fmt.Errorf("create an API key: %w", context.Cause(ctx))
}

// List reads all keys, revoked ones too, the oldest first. Records that cannot be read are left out, and named in err
// beside the others.
func List(ctx context.Context, conn *broker.Conn) ([]Key, error) {
	stored, err := conn.RecordsNow(ctx, broker.KeysBucket)
	if err != nil {
		return nil, fmt.Errorf("list the API keys: %w", err)
	}
	var keys []Key
	var faults []error
	for _, s := range stored {
		id, isKey := strings.CutPrefix(s.Key, keyPrefix)
		if !isKey || s.Data == nil {
			continue // or removed
		}
		r, _, err := decode(id, s.Data)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		keys = append(keys, r.Key)
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	return keys, errors.Join(faults...)
}

// Revoke ends a key for good. One that was revoked before stays as it is. ErrUnknown: there is none with this id.
func Revoke(ctx context.Context, conn *broker.Conn, id string) (Key, error) {
	if !IsKeyID(id) {
		return Key{}, fmt.Errorf("revoke an API key: %w", ErrUnknown) // the id is not told: it may be a secret
	}
	for ctx.Err() == nil {
		stored, err := conn.Record(ctx, broker.KeysBucket, keyPrefix+id)
		if err != nil {
			return Key{}, fmt.Errorf("revoke API key %s: %w", id, err)
		}
		if stored.Data == nil {
			return Key{}, fmt.Errorf("revoke API key %s: %w", id, ErrUnknown)
		}
		r, _, err := decode(id, stored.Data)
		if err != nil || r.Revoked() {
			return r.Key, err
		}
		r.RevokedAt = time.Now().UTC().Truncate(time.Second)
		data, err := json.Marshal(r)
		if err != nil {
			return Key{}, fmt.Errorf("revoke API key %s: %w", id, err)
		}
		_, err = conn.Swap(ctx, broker.KeysBucket, keyPrefix+id, data, stored.Revision)
		if err == nil {
			return r.Key, nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return Key{}, fmt.Errorf("revoke API key %s: %w", id, err)
		}
	}
	return Key{}, fmt.Errorf("revoke API key %s: %w", id, context.Cause(ctx))
}

// decode reads the record of id. Its errors name no more of it than the id.
func decode(id string, data []byte) (record, hash, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, hash{}, fmt.Errorf("the record of API key %s: %w", id, broker.ErrUnreadable)
	}
	sum, err := hex.DecodeString(r.SHA256)
	if err != nil || len(sum) != len(hash{}) || r.V != version || r.ID != id {
		return record{}, hash{}, fmt.Errorf("the record of API key %s (version %d): %w", id, r.V, broker.ErrUnreadable)
	}
	return r, hash(sum), nil
}
