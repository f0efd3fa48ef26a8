package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/oklog/ulid/v2"

	"spillway/pkg/job"
)

// derivedID is the id of a request that has none of its own: a ULID made of where and when JetStream
// stored the message, so that each delivery of it finds the same.
func derivedID(stream string, created, stored time.Time, sequence uint64) string {
	seed := make([]byte, 0, 64)
	seed = append(seed, stream...)
	seed = binary.BigEndian.AppendUint64(seed, uint64(created.UnixNano()))
	seed = binary.BigEndian.AppendUint64(seed, uint64(stored.UnixNano()))
	seed = binary.BigEndian.AppendUint64(seed, sequence)
	sum := sha256.Sum256(seed)
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(stored)) // fails after the year 10889 only
	_ = id.SetEntropy(sum[:10])            // fails for another length only
	return id.String()
}

// hashBody tells a duplicate from a conflict. White space between JSON tokens does not count.
func hashBody(task string, body []byte) string {
	h := sha256.New()
	h.Write([]byte(task))
	h.Write([]byte{0})
	for len(body) > 0 {
		size := untilBlank(body)
		h.Write(body[:size])
		body = bytes.TrimLeft(body[size:], blank)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// blank is what JSON knows as white space.
const blank = " \t\r\n"

// untilBlank is the length of what body begins with up to the next white space that is not within a string.
func untilBlank(body []byte) int {
	at := 0
	for {
		i := bytes.IndexAny(body[at:], `"`+blank)
		switch {
		case i < 0:
			return len(body)
		case body[at+i] != '"':
			return at + i
		}
		at += i + 1
		at += quoted(body[at:])
	}
}

// quoted is the length of the rest of a string, its closing quote included.
func quoted(s []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(s[at:], '"')
		if i < 0 {
			return len(s)
		}
		at += i + 1
		escapes := at - 1
		for escapes > 0 && s[escapes-1] == '\\' {
			escapes--
		}
		if (at-1-escapes)%2 == 0 {
			return at
		}
	}
}

// findID looks for the id of a body that is refused as a whole, so that its sender can be told. It reads
// no further than it must; "" when there is none to find.
func findID(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return ""
		}
		if key == "id" {
			var id string
			if d.Decode(&id) != nil || !job.IsID(id) {
				return ""
			}
			return id
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return ""
		}
	}
	return ""
}
