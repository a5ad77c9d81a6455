package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash"
	"strings"
	"sync"
	"sync/atomic"
)

// hs256 checks tokens with our secret without the library, which costs five
// times as much: when thousands come back at once that is most of the work.
// What it does not know, the library judges.
type hs256 struct {
	macs   sync.Pool              // of hash.Hash, with the secret
	header atomic.Pointer[string] // a first part that the library took for alg HS256 and nothing else of meaning
}

// claims returns what a token says that is well-formed, has the known header
// and our signature (RFC 7515 §5.2).
func (h *hs256) claims(token string, secret []byte) (c claims, ok bool) {
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, found := strings.Cut(rest, ".")
	known := h.header.Load()
	if !found || known == nil || header != *known {
		return c, false
	}
	var given, want [sha256.Size]byte
	if base64.RawURLEncoding.DecodedLen(len(signature)) != len(given) {
		return c, false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(given[:], []byte(signature)); err != nil {
		return c, false
	}
	mac, pooled := h.macs.Get().(hash.Hash)
	if !pooled {
		mac = hmac.New(sha256.New, secret)
	}
	defer h.macs.Put(mac)
	mac.Reset()
	mac.Write([]byte(token[:len(header)+1+len(payload)]))
	if !hmac.Equal(mac.Sum(want[:0]), given[:]) {
		return c, false
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	return c, err == nil && json.Unmarshal(text, &c) == nil
}

// learn notes the header of a token that the library has accepted by our
// secret, if it says nothing else (RFC 7515 §4: crit, kid and others have
// meanings that are the library's to judge).
func (h *hs256) learn(token string) {
	header, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(header)
	var fields map[string]any
	if err != nil || json.Unmarshal(text, &fields) != nil {
		return
	}
	for name, value := range fields {
		if name != "typ" && (name != "alg" || value != "HS256") {
			return
		}
	}
	header = strings.Clone(header)
	h.header.Store(&header)
}
