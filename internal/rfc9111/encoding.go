package rfc9111

import "strings"

// AcceptsEncoding tells which of our codings an Accept-Encoding field accepts
// (RFC 9110 §12.5.3). Without the field a client could be sent any; we take it
// for one that knows none.
func AcceptsEncoding(acceptEncoding string) (gzip, br bool) {
	const unknown, refused, accepted = 0, 1, 2
	var g, b, star int
	for s := acceptEncoding; s != ""; {
		var member string
		member, s, _ = strings.Cut(s, ",")
		coding, params, _ := strings.Cut(member, ";")
		verdict := accepted
		if zeroQuality(params) {
			verdict = refused
		}
		// Of several a refusal counts: identity is always understood.
		switch coding = trim(coding); {
		case g != refused && (strings.EqualFold(coding, "gzip") || strings.EqualFold(coding, "x-gzip")):
			g = verdict
		case b != refused && strings.EqualFold(coding, "br"):
			b = verdict
		case star != refused && coding == "*":
			star = verdict
		}
	}
	if g == unknown {
		g = star
	}
	if b == unknown {
		b = star
	}
	return g == accepted, b == accepted
}

// zeroQuality tells whether the parameters of a coding say "not acceptable", or
// say something about it that cannot be read (RFC 9110 §12.4.2).
func zeroQuality(params string) bool {
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		name, value, _ := strings.Cut(param, "=")
		if !strings.EqualFold(trim(name), "q") {
			continue
		}
		value = trim(value)
		return value == "" || strings.Trim(value, "0.") == "" || strings.Trim(value, "0123456789.") != ""
	}
	return false
}
