// Package gateway is a shared HTTP cache in front of slow services, which
// events refresh.
//
// A route says which requests are its own (a path, perhaps a host) and which
// upstream answers them. What may be stored, for how long and what a stored
// answer may be used for is decided by RFC 9111 (internal/rfc9111) and, where
// the response says nothing, by the route. It promises:
//
//   - One flight a key: however many ask for the same thing, the upstream is
//     asked once. A client that leaves does not end the flight, and answers that
//     cannot be shared do not make their clients wait in line.
//   - Nothing is shared that depends on what is not in the key: what goes
//     upstream of a request whose answer may be stored is keyed, nominated by
//     Vary, or removed.
//   - After an event (refresh_on), as soon as the gateway has heard of it, nobody
//     is given an answer that was fetched before it; entries that are in use are fetched anew at once, clients that
//     wait for a change (Prefer: wait) are answered, and the answer is published.
//   - Bounded: bytes stored, bytes being filled, an object's size, variants a
//     key, requests and their wait for each origin, waiting clients.
//
// Hits are written by the event loop from prepared heads (Prepare); everything
// else goes through ServeHTTP.
//
// It does not do ESI, does not store ranges, and merges no partial answers.
package gateway
