// Package feed watches RSS, Atom, RDF and JSON feeds: each entry that appears
// becomes one feed.entry event on the watch's topic.
//
// A feed is asked for with both validators of its last answer, byte for byte,
// across restarts; what was seen is kept in the same checkpoint, in one
// transaction with the events. What is there at the first reading is not
// news: it is reported only as far as backfill asks for.
//
// The other side is hostile: size, time, redirects, nesting and the number of
// entries are bounded, entities are refused, HTML is cleaned, and addresses
// inside our network are out of reach (internal/safedial).
package feed
