package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// The expected hash is that of what encoding/json makes of the body without its white space.
func TestTheHashIsThatOfTheBodyWithoutItsWhiteSpace(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`, ` { "a" : 1 } `, `{"a":"x y"}`, `{"a":"\" \\"  , "b":"\\\\" }`, "{\n\t\"a\":\r\n [ 1 , 2 ] }", `"\\\" "`, `""`, ` "" `,
		`{"":"" , "é ü":" \u0022 "}`, `{"a":"\\\\\" , "}`, "[true,\tfalse , null,-1.5e+3 ]", `"a" `,
	} {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(body)); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append([]byte("toy\x00"), compact.Bytes()...))
		if got, want := hashBody("toy", []byte(body)), hex.EncodeToString(sum[:16]); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

// What is no JSON is rejected, but it has a hash all the same.
func TestABodyThatIsNoJSONHasAHash(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, body := range []string{``, `"`, `"\`, `"\"`, `{"a`, "\x00", `a b`, `a`} {
		h := hashBody("toy", []byte(body))
		if other, twice := seen[h]; twice {
			t.Errorf("%q and %q have one hash", body, other)
		}
		seen[h] = body
	}
}

func FuzzTheHashKnowsWhiteSpace(f *testing.F) {
	f.Add(`{"a" : "\" " , "b" : [ ] }`)
	f.Fuzz(func(t *testing.T, body string) {
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(body)) == nil && hashBody("toy", []byte(body)) != hashBody("toy", compact.Bytes()) {
			t.Errorf("%q and %q have two hashes", body, compact.String())
		}
	})
}
