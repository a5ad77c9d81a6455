package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"strings"
)

// keyGUID is a constant of RFC 6455 §1.3.
const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// AcceptKey appends the Sec-WebSocket-Accept of a Sec-WebSocket-Key
// (RFC 6455 §4.2.2). It does not judge the key: ValidKey does.
func AcceptKey(dst []byte, key []byte) []byte {
	var buffer [24 + len(keyGUID)]byte
	sum := sha1.Sum(append(append(buffer[:0], key...), keyGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// ValidKey reports whether key is 16 bytes in base64 (RFC 6455 §4.2.1).
func ValidKey(key []byte) bool {
	const encoded = 24
	var decoded [18]byte // what 24 characters without padding would give
	if len(key) != encoded {
		return false
	}
	n, err := base64.StdEncoding.Decode(decoded[:], key)
	return err == nil && n == 16
}

const deflateAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// Extensions reads a client's Sec-WebSocket-Extensions, all its lines joined
// by ",", and returns the one to send back; "" says to send none. It takes the
// first offer of permessage-deflate that the server can keep (RFC 7692 §7.1)
// and declines the others, malformed ones included.
func Extensions(header string) (answer string) {
	for more := true; more; {
		var offer string
		offer, header, more = cutUnquoted(header, ',')
		if answer := answerOffer(offer); answer != "" {
			return answer
		}
	}
	return ""
}

func answerOffer(offer string) string {
	name, parameters, more := cutUnquoted(offer, ';')
	if trim(name) != "permessage-deflate" {
		return ""
	}
	answer := deflateAnswer
	seen := map[string]bool{}
	for more {
		var parameter string
		parameter, parameters, more = cutUnquoted(parameters, ';')
		name, value, hasValue := strings.Cut(parameter, "=")
		name, value = trim(name), unquote(trim(value))
		// RFC 7692 §7.1: unknown, repeated or odd ones decline the offer.
		if seen[name] || !mayKeep(name, value, hasValue) {
			return ""
		}
		seen[name] = true
		if name == "server_max_window_bits" { // RFC 7692 §7.1.2.1: confirmed
			answer += "; server_max_window_bits=15"
		}
	}
	return answer
}

// mayKeep reports whether a parameter of an offer is valid and can be kept.
func mayKeep(name, value string, hasValue bool) bool {
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		return !hasValue
	case "server_max_window_bits":
		return value == "15" // compress/flate has no smaller window
	case "client_max_window_bits":
		return !hasValue || isWindowBits(value)
	}
	return false
}

// isWindowBits: 8 to 15, without leading zeros (RFC 7692 §7.1.2).
func isWindowBits(s string) bool {
	return s == "8" || s == "9" || len(s) == 2 && s[0] == '1' && s[1] >= '0' && s[1] <= '5'
}

// cutUnquoted cuts s at the first separator outside quotation marks.
func cutUnquoted(s string, separator byte) (before, after string, found bool) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func trim(s string) string { return strings.Trim(s, " \t") }

// unquote takes the quotation marks off a value; those that we take need no
// escapes.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
