package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// hs256 checks tokens with our secret without the library, which costs five
// times as much: when thousands come back at once that is most of the work.
// What it does not know, the library judges.
type hs256 struct {
	checks sync.Pool              // of *check
	header atomic.Pointer[string] // a first part that the library took for alg HS256 and nothing else of meaning
}

// check is what one token's check needs: in a storm of reconnects that is
// used again instead of made anew.
type check struct {
	mac    hash.Hash // with the secret
	bytes  []byte    // of the token
	text   []byte    // of its payload
	claims claims
}

// claims calls use with what a token says that is well-formed, has the known
// header and our signature (RFC 7515 §5.2); the claims are valid during the call.
func (h *hs256) claims(token string, secret []byte, use func(*claims)) {
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, found := strings.Cut(rest, ".")
	known := h.header.Load()
	if !found || known == nil || header != *known || base64.RawURLEncoding.DecodedLen(len(signature)) != sha256.Size {
		return
	}
	c, pooled := h.checks.Get().(*check)
	if !pooled {
		c = &check{mac: hmac.New(sha256.New, secret)}
	}
	defer h.checks.Put(c)
	c.bytes = append(c.bytes[:0], token...)
	if c.signed(len(header)+1+len(payload)) && c.decode(len(header)+1, len(payload)) {
		use(&c.claims)
	}
}

// signed reports whether the token's first n bytes are signed by what stands
// behind them.
func (c *check) signed(n int) bool {
	var given, want [sha256.Size]byte
	if _, err := base64.RawURLEncoding.Strict().Decode(given[:], c.bytes[n+1:]); err != nil {
		return false
	}
	c.mac.Reset()
	c.mac.Write(c.bytes[:n])
	return hmac.Equal(c.mac.Sum(want[:0]), given[:])
}

// decode reads the payload, n bytes from at.
func (c *check) decode(at, n int) bool {
	c.text = slices.Grow(c.text[:0], base64.RawURLEncoding.DecodedLen(n))
	text := c.text[:base64.RawURLEncoding.DecodedLen(n)]
	if _, err := base64.RawURLEncoding.Strict().Decode(text, c.bytes[at:at+n]); err != nil {
		return false
	}
	c.claims = claims{}
	return json.Unmarshal(text, &c.claims) == nil
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
