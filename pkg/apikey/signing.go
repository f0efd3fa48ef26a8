package apikey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"spillway/pkg/broker"
)

// signingKey is where the bucket keeps what tokens are signed with.
const signingKey = "signing"

// signing is that record: the newest key first, two at most.
type signing struct {
	V    int    `json:"v"`
	Keys []seal `json:"keys"`
}

// seal is one HMAC key.
type seal struct {
	Key []byte    `json:"key"`
	At  time.Time `json:"at"`
}

// newest are the keys that count.
const newest = 2

// decodeSigning reads the record; none has no keys.
func decodeSigning(data []byte) ([]seal, error) {
	if data == nil {
		return nil, nil
	}
	var s signing
	err := json.Unmarshal(data, &s)
	isBroken := func(k seal) bool { return len(k.Key) != randomBytes }
	if err != nil || s.V != version || len(s.Keys) == 0 || len(s.Keys) > newest || slices.ContainsFunc(s.Keys, isBroken) {
		return nil, fmt.Errorf("what tokens are signed with: %w; `spillway key rotate` makes a new one", broker.ErrUnreadable)
	}
	return s.Keys, nil
}

// Rotate makes a new key to sign tokens with. The one before still verifies until the next rotation.
func Rotate(ctx context.Context, conn *broker.Conn) error {
	return renewSigning(ctx, conn, true)
}

// renewSigning puts a new key before the stored ones, if there are none or rotate is set. Of several replicas that find
// none, one makes it.
func renewSigning(ctx context.Context, conn *broker.Conn, rotate bool) error {
	fresh := seal{Key: randomKey(), At: time.Now().UTC().Truncate(time.Second)}
	isFresh := func(k seal) bool { return bytes.Equal(k.Key, fresh.Key) }
	for ctx.Err() == nil {
		stored, err := conn.Record(ctx, broker.KeysBucket, signingKey)
		if err != nil {
			return fmt.Errorf("read what tokens are signed with: %w", err)
		}
		keys, err := decodeSigning(stored.Data)
		if !rotate && (err != nil || len(keys) > 0) || slices.ContainsFunc(keys, isFresh) {
			return err
		}
		keys = append([]seal{fresh}, keys...) // what cannot be read is overwritten
		data, err := json.Marshal(signing{V: version, Keys: keys[:min(len(keys), newest)]})
		if err != nil {
			return fmt.Errorf("make a key to sign tokens with: %w", err)
		}
		_, err = conn.Swap(ctx, broker.KeysBucket, signingKey, data, stored.Revision)
		if err != nil && !errors.Is(err, broker.ErrConflict) {
			return fmt.Errorf("make a key to sign tokens with: %w", err)
		}
	}
	return fmt.Errorf("make a key to sign tokens with: %w", context.Cause(ctx))
}
