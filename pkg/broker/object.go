package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The objects of a bucket are as the client's object store has them, so that any NATS tool reads them. They are read
// and written here by other means: reads come from the leader and need no consumer, and writers of the same object do
// not get in each other's way.

// objectChunk is what one message of an object holds at most.
const objectChunk = 128 << 10

// codeNoStream is the server's word for a stream that is not there.
const codeNoStream = jetstream.JSErrCodeStreamNotFound

// Object reads an object from the leader of the bucket. ErrNotFound: there is none, or no such bucket. ErrUnreadable:
// what is stored is not what was put there, or it is larger than maxBytes.
func (c *Conn) Object(ctx context.Context, bucket, name string, maxBytes int) ([]byte, error) {
	info, _, err := c.objectInfo(ctx, bucket, name)
	switch {
	case err != nil:
		return nil, err
	case info == nil || info.Deleted:
		return nil, ErrNotFound
	case info.Size > uint64(maxBytes):
		return nil, fmt.Errorf("object %s of %s: %w: it has %d bytes, %d are the most", name, bucket, ErrUnreadable, info.Size, maxBytes)
	}
	var data []byte
	subject, next := objectChunks(bucket, info.NUID), uint64(1)
	for range info.Chunks {
		stored, err := c.Next(ctx, ObjectStream(bucket), subject, next)
		if errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("object %s of %s: %w: it has %d of %d bytes", name, bucket, ErrUnreadable, len(data), info.Size)
		}
		if err != nil {
			return nil, err
		}
		data, next = append(data, stored.Data...), stored.Sequence+1
		if len(data) > maxBytes {
			break
		}
	}
	if digestOf(data) != info.Digest {
		return nil, fmt.Errorf("object %s of %s: %w: its digest is another", name, bucket, ErrUnreadable)
	}
	return data, nil
}

// objectInfo reads what is known of an object, with the sequence of that. nil: nothing ever was.
func (c *Conn) objectInfo(ctx context.Context, bucket, name string) (*jetstream.ObjectInfo, uint64, error) {
	stored, err := c.Last(ctx, ObjectStream(bucket), objectMeta(bucket, name))
	if api, ok := errors.AsType[*jetstream.APIError](err); errors.Is(err, ErrNotFound) || ok && api.ErrorCode == codeNoStream {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	info := &jetstream.ObjectInfo{}
	if err := json.Unmarshal(stored.Data, info); err != nil {
		return nil, 0, fmt.Errorf("object %s of %s: %w: %w", name, bucket, ErrUnreadable, err)
	}
	return info, stored.Sequence, nil
}

// PutObject stores an object, in the place of another one of the name. Several may put the same at once. ErrFull: the
// bucket is at its bound.
func (c *Conn) PutObject(ctx context.Context, bucket, name string, data []byte) error {
	digest := digestOf(data)
	for n := 0; ctx.Err() == nil; n++ {
		known, revision, err := c.objectInfo(ctx, bucket, name)
		if err != nil && !errors.Is(err, ErrUnreadable) {
			return err
		}
		if known != nil && !known.Deleted && known.Digest == digest {
			return nil
		}
		info := &jetstream.ObjectInfo{
			ObjectMeta: jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: objectChunk}},
			Bucket:     bucket, NUID: chunksName(name, digest, revision), Size: uint64(len(data)), Digest: digest,
			Chunks: uint32((len(data) + objectChunk - 1) / objectChunk), //nolint:gosec // far below 2^32
		}
		if err = c.putChunks(ctx, ObjectStream(bucket), objectChunks(bucket, info.NUID), data); err == nil {
			err = c.putInfo(ctx, info, revision)
		}
		if !errors.Is(err, ErrConflict) || pause(ctx, n) != nil {
			return err
		}
	}
	return fmt.Errorf("put object %s of %s: %w", name, bucket, context.Cause(ctx))
}

// putChunks stores data on a subject that no other data is put on. What is there already was put by another one, or by
// one who did not come to the end. ErrConflict: it was removed meanwhile.
func (c *Conn) putChunks(ctx context.Context, stream, subject string, data []byte) error {
	var last uint64
	for chunk := range slices.Chunk(data, objectChunk) {
		sequence, err := c.PublishExpecting(ctx, &nats.Msg{Subject: subject, Data: chunk}, last)
		if errors.Is(err, ErrConflict) {
			stored, readErr := c.Next(ctx, stream, subject, last+1)
			if readErr != nil && !errors.Is(readErr, ErrNotFound) {
				return readErr
			}
			if readErr != nil || !bytes.Equal(stored.Data, chunk) {
				return err
			}
			sequence, err = stored.Sequence, nil
		}
		if err != nil {
			return err
		}
		last = sequence
	}
	return nil
}

func (c *Conn) putInfo(ctx context.Context, info *jetstream.ObjectInfo, revision uint64) error {
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: objectMeta(info.Bucket, info.Name), Data: data, Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}}
	_, err = c.PublishExpecting(ctx, m, revision)
	return err
}

// RemoveObject takes an object away. One that is not there is no error.
func (c *Conn) RemoveObject(ctx context.Context, bucket, name string) error {
	for ctx.Err() == nil {
		info, revision, err := c.objectInfo(ctx, bucket, name)
		if err != nil || info == nil || info.Deleted {
			return err
		}
		chunks := objectChunks(bucket, info.NUID)
		info.Deleted, info.Size, info.Chunks, info.Digest = true, 0, 0, ""
		if err := c.putInfo(ctx, info, revision); err != nil {
			if errors.Is(err, ErrConflict) {
				continue
			}
			return err
		}
		s, err := c.JS.Stream(ctx, ObjectStream(bucket))
		if err != nil {
			return fmt.Errorf("open bucket %s: %w", bucket, err)
		}
		if err := s.Purge(ctx, jetstream.WithPurgeSubject(chunks)); err != nil {
			return fmt.Errorf("remove the chunks of object %s of %s: %w", name, bucket, err)
		}
		return nil
	}
	return fmt.Errorf("remove object %s of %s: %w", name, bucket, context.Cause(ctx))
}

// Objects are the names of all objects of a bucket.
func (c *Conn) Objects(ctx context.Context, bucket string) ([]string, error) {
	start := objectMeta(bucket, "")
	subjects, err := c.SubjectsOf(ctx, ObjectStream(bucket), start+">")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, subject := range subjects {
		name, err := base64.URLEncoding.DecodeString(strings.TrimPrefix(subject, start))
		if err != nil {
			continue // nobody's object
		}
		info, _, err := c.objectInfo(ctx, bucket, string(name))
		if err != nil {
			return nil, err
		}
		if info != nil && !info.Deleted {
			names = append(names, string(name))
		}
	}
	return names, nil
}

// chunksName is the same for all who put the same in the same place, and another one after a removal.
func chunksName(name, digest string, revision uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", name, digest, revision))
	return strings.ToUpper(hex.EncodeToString(sum[:11]))
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:])
}
