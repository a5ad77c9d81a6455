// Package route says which requests are a gateway route's, what of them goes
// upstream, what is in the key that an answer is stored under, and what pages of
// other origins may do with it.
//
// The rule that it holds: what goes upstream of a request whose answer may be
// stored is in the key, or can be nominated by Vary, or is removed. Two requests
// that the upstream could answer differently share no key.
package route
