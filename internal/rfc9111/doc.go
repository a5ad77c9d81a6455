// Package rfc9111 holds the rules of RFC 9111 for a shared cache, as pure
// functions: what may be stored and for how long, what a request accepts, which
// variant it selects, how a stored response is validated, updated, cut into
// ranges and invalidated. The clock is passed in; nothing here does I/O, holds
// state or starts a goroutine. A gateway owns the store and calls these.
//
// It also knows the neighbours a shared cache needs: stale-while-revalidate and
// stale-if-error (RFC 5861), CDN-Cache-Control (RFC 9213), Cache-Status (RFC
// 9211), Cache-Groups (RFC 9875), conditions and ranges (RFC 9110).
//
// It promises to read fields of any size in linear time, to never panic on them,
// and to cap what it keeps: lifetimes and ages at 2^31 s (RFC 9111 §1.2.2), names
// in Vary, groups and tags in number and length.
//
// It leaves out: storing and combining partial responses (§3.3, §3.4),
// multipart/byteranges, choosing a variant by quality values, Warning, and what
// needs the key of a response, such as a POST's Content-Location being its URI.
//
// It is stricter than the RFC where sharing could leak: unless the operator allows
// it, the response to a request with Authorization or Cookie is not stored, not
// even with public or s-maxage, and one with Set-Cookie never; private="field" is
// private, no-cache="field" is no-cache; a Vary with a malformed name or more than
// 64 of them is "Vary: *". It is also stricter with time: an invalid max-age is 0,
// there are no leap seconds, a two-digit year from 69 on is of the 20th century.
package rfc9111
