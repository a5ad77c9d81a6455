package head_test

import (
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/head"
)

// post is a head with these lines more, each ended by the line itself.
func post(lines ...string) string {
	return "POST / HTTP/1.1\r\nHost: h\r\n" + strings.Join(lines, "") + "\r\n"
}

// line is a request line with a Host field, whole.
func line(s string) string { return s + "\r\nHost: h\r\n\r\n" }

const (
	cl = "Content-Length: 5\r\n"
	te = "Transfer-Encoding: chunked\r\n"
)

// smuggling holds the shapes of heads that parsers have been known to read
// differently, with the status they get.
var smuggling = []struct {
	name, head string
	want       int
}{
	{"CL then TE", post(cl, te), 400},
	{"TE then CL", post(te, cl), 400},
	{"CL of 0 then TE", post("Content-Length: 0\r\n", te), 400},
	{"TE then an unknown one and CL", post("Transfer-Encoding: x\r\n", cl), 501},

	{"TE twice", post(te, te), 400},
	{"TE twice, second unknown", post(te, "Transfer-Encoding: identity\r\n"), 400},
	{"TE twice, first unknown", post("Transfer-Encoding: identity\r\n", te), 501},
	{"TE twice in two cases", post("transfer-encoding: chunked\r\n", "TRANSFER-ENCODING: chunked\r\n"), 400},
	{"TE chunked,identity", post("Transfer-Encoding: chunked,identity\r\n"), 501},
	{"TE identity,chunked", post("Transfer-Encoding: identity, chunked\r\n"), 501},
	{"TE chunked,chunked", post("Transfer-Encoding: chunked, chunked\r\n"), 501},
	{"TE gzip,chunked", post("Transfer-Encoding: gzip, chunked\r\n"), 501},
	{"TE ,chunked", post("Transfer-Encoding: ,chunked\r\n"), 501},
	{"TE chunked,", post("Transfer-Encoding: chunked,\r\n"), 501},
	{"TE chunked;q=1", post("Transfer-Encoding: chunked;q=1\r\n"), 501},
	{"TE xchunked", post("Transfer-Encoding: xchunked\r\n"), 501},
	{"TE chunkedx", post("Transfer-Encoding: chunkedx\r\n"), 501},
	{"TE quoted", post("Transfer-Encoding: \"chunked\"\r\n"), 501},
	{"TE identity", post("Transfer-Encoding: identity\r\n"), 501},
	{"TE empty", post("Transfer-Encoding:\r\n"), 501},
	{"TE with a Kelvin sign", post("Transfer-Encoding: chun\xe2\x84\xaaed\r\n"), 501},
	{"TE with no-break space", post("Transfer-Encoding: \xa0chunked\r\n"), 501},
	{"TE with vertical tab after", post("Transfer-Encoding: chunked\x0b\r\n"), 400},
	{"TE with vertical tab before", post("Transfer-Encoding: \x0bchunked\r\n"), 400},
	{"TE with form feed", post("Transfer-Encoding: \x0cchunked\r\n"), 400},
	{"TE with NUL", post("Transfer-Encoding: chunked\x00\r\n"), 400},
	{"TE with DEL", post("Transfer-Encoding: chunked\x7f\r\n"), 400},
	{"TE, space before the colon", post("Transfer-Encoding : chunked\r\n"), 400},
	{"TE, tab before the colon", post("Transfer-Encoding\t: chunked\r\n"), 400},
	{"TE, space before the name", post(" Transfer-Encoding: chunked\r\n"), 400},
	{"TE, space before the name, not first", post("A: b\r\n", " Transfer-Encoding: chunked\r\n"), 400},
	{"TE, NUL before the name", post("\x00Transfer-Encoding: chunked\r\n"), 400},
	{"TE, NUL in the name", post("Transfer-\x00Encoding: chunked\r\n"), 400},
	{"TE folded", post("Transfer-Encoding:\r\n chunked\r\n"), 501},
	{"TE folded by a tab", post("Transfer-Encoding:\r\n\tchunked\r\n"), 501},
	{"TE after a bare LF", post("A: b\nTransfer-Encoding: chunked\r\n"), 400},
	{"TE after a bare CR", post("A: b\rTransfer-Encoding: chunked\r\n"), 400},
	{"TE ended by a bare LF", post("Transfer-Encoding: chunked\n"), 400},
	{"TE ended by a bare CR", post("Transfer-Encoding: chunked\r"), 400},
	{"TE ended by CRCRLF", post("Transfer-Encoding: chunked\r\r\n"), 400},
	{"TE with underscore", post("Transfer_Encoding: chunked\r\n"), 400},
	{"TE without a colon", post("Transfer-Encoding chunked\r\n"), 400},
	{"TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\n" + te + "\r\n", 400},
	{"TE listed by Connection", post("Connection: Transfer-Encoding\r\n", te), 400},
	{"TE as trailer", post(te, "Trailer: a, Transfer-Encoding\r\n"), 400},

	{"CL +5", post("Content-Length: +5\r\n"), 400},
	{"CL -0", post("Content-Length: -0\r\n"), 400},
	{"CL -5", post("Content-Length: -5\r\n"), 400},
	{"CL 5,5", post("Content-Length: 5,5\r\n"), 400},
	{"CL 5 ,5", post("Content-Length: 5 ,5\r\n"), 400},
	{"CL 5, 6", post("Content-Length: 5, 6\r\n"), 400},
	{"CL 5 6", post("Content-Length: 5 6\r\n"), 400},
	{"CL 5;", post("Content-Length: 5;\r\n"), 400},
	{"CL 5.0", post("Content-Length: 5.0\r\n"), 400},
	{"CL 5e0", post("Content-Length: 5e0\r\n"), 400},
	{"CL 5_0", post("Content-Length: 5_0\r\n"), 400},
	{"CL 0x5", post("Content-Length: 0x5\r\n"), 400},
	{"CL 0b1", post("Content-Length: 0b1\r\n"), 400},
	{"CL A", post("Content-Length: A\r\n"), 400},
	{"CL empty", post("Content-Length:\r\n"), 400},
	{"CL quoted", post("Content-Length: \"5\"\r\n"), 400},
	{"CL in other digits", post("Content-Length: \xef\xbc\x95\r\n"), 400},
	{"CL with vertical tab", post("Content-Length: \x0b5\r\n"), 400},
	{"CL with NUL", post("Content-Length: 5\x00\r\n"), 400},
	{"CL above 1<<62", post("Content-Length: 4611686018427387905\r\n"), 400},
	{"CL above 1<<63", post("Content-Length: 9223372036854775808\r\n"), 400},
	{"CL of 1<<64 and 5", post("Content-Length: 18446744073709551621\r\n"), 400},
	{"CL of many digits", post("Content-Length: " + strings.Repeat("9", 99) + "\r\n"), 400},
	{"CL twice, same", post(cl, cl), 400},
	{"CL twice, other", post(cl, "Content-Length: 6\r\n"), 400},
	{"CL twice in two cases", post("content-length: 5\r\n", "CONTENT-LENGTH: 5\r\n"), 400},
	{"CL, space before the colon", post("Content-Length : 5\r\n"), 400},
	{"CL folded", post("Content-Length:\r\n 5\r\n"), 400},
	{"CL folded within", post("Content-Length: 5\r\n 0\r\n"), 400},
	{"CL with underscore", post("Content_Length: 5\r\n"), 400},
	{"CL listed by Connection", post("Connection: close, content-length\r\n", cl), 400},
	{"CL as trailer", post(te, "Trailer: Content-Length\r\n"), 400},

	{"all lines by bare LF", "GET / HTTP/1.1\nHost: h\n\n", 400},
	{"request line by bare LF", "GET / HTTP/1.1\nHost: h\r\n\r\n", 400},
	{"request line by bare CR", "GET / HTTP/1.1\rHost: h\r\n\r\n", 400},
	{"empty line by bare LF", "GET / HTTP/1.1\r\nHost: h\r\n\nGET /2 HTTP/1.1\r\n", 400},
	{"empty line by CRCRLF", "GET / HTTP/1.1\r\nHost: h\r\n\r\r\n", 400},
	{"LF in a value", post("A: b\nC: d\r\n"), 400},
	{"CR in a value", post("A: b\rC: d\r\n"), 400},
	{"NUL in a value", post("A: b\x00\r\n"), 400},
	{"NUL in a name", post("A\x00: b\r\n"), 400},
	{"LF in a name", post("A\n: b\r\n"), 400},
	{"space in a name", post("A B: c\r\n"), 400},
	{"byte above ASCII in a name", post("\xc3\xa9: b\r\n"), 400},
	{"bracket in a name", post("A[]: b\r\n"), 400},
	{"empty name", post(": b\r\n"), 400},
	{"no colon", post("A\r\n"), 400},
	{"folded line", post("A: b\r\n", " c\r\n"), 400},
	{"folded line without text", post("A: b\r\n", " \r\n"), 400},
	{"first line folded", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400},

	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"two Hosts, same", post("Host: h\r\n"), 400},
	{"two Hosts, other", post("Host: evil\r\n"), 400},
	{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400},
	{"two Hosts in one", "GET / HTTP/1.1\r\nHost: h, evil\r\n\r\n", 400},
	{"Host, space before the colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400},
	{"Host listed by Connection", post("Connection: host\r\n"), 400},
	{"absolute with another Host", "GET http://evil/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"absolute with another port", "GET http://h:81/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"absolute without a Host", "GET http://h/ HTTP/1.1\r\n\r\n", 400},
	{"absolute with another in HTTP/1.0", "GET http://evil/ HTTP/1.0\r\nHost: h\r\n\r\n", 400},
	{"absolute with a user", "GET http://h@evil/ HTTP/1.1\r\nHost: evil\r\n\r\n", 400},
	{"absolute with a backslash", "GET http://h\\@evil/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"absolute without authority", line("GET http:/h"), 400},
	{"absolute with an empty one", line("GET http:///h"), 400},
	{"absolute with an escape", "GET http://%68/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},

	{"no target", line("GET HTTP/1.1"), 400},
	{"empty target", line("GET  HTTP/1.1"), 400},
	{"two spaces before the version", line("GET /  HTTP/1.1"), 400},
	{"tab for a space", line("GET\t/ HTTP/1.1"), 400},
	{"tab before the version", line("GET /\tHTTP/1.1"), 400},
	{"vertical tab before the version", line("GET /\x0bHTTP/1.1"), 400},
	{"space before the method", line(" GET / HTTP/1.1"), 400},
	{"space after the version", line("GET / HTTP/1.1 "), 400},
	{"four words", line("GET / HTTP/1.1 HTTP/1.1"), 400},
	{"a space in the target", line("GET /a b HTTP/1.1"), 400},
	{"no version", line("GET /"), 400},
	{"method not a token", line("GET( / HTTP/1.1"), 400},
	{"method with NUL", line("G\x00ET / HTTP/1.1"), 400},
	{"target with NUL", line("GET /\x00 HTTP/1.1"), 400},
	{"target with DEL", line("GET /\x7f HTTP/1.1"), 400},
	{"target above ASCII", line("GET /\xc3\xa9 HTTP/1.1"), 400},
	{"target with a fragment", line("GET /a#b HTTP/1.1"), 400},
	{"target without a slash", line("GET a HTTP/1.1"), 400},
	{"target with a query only", line("GET ?a HTTP/1.1"), 400},
	{"target * with GET", line("GET * HTTP/1.1"), 400},
	{"target * with a query", line("OPTIONS *?a HTTP/1.1"), 400},
	{"target of another scheme", line("GET ftp://h/ HTTP/1.1"), 400},
	{"target of a near scheme", line("GET httpx://h/ HTTP/1.1"), 400},
	{"CONNECT", line("CONNECT h:443 HTTP/1.1"), 400},
	{"CONNECT to a path", line("CONNECT / HTTP/1.1"), 400},
	{"version in lower case", line("GET / http/1.1"), 400},
	{"version of another protocol", line("GET / RTSP/1.1"), 400},
	{"version of two digits", line("GET / HTTP/1.10"), 400},
	{"version with a sign", line("GET / HTTP/+1.1"), 400},
	{"version with a comma", line("GET / HTTP/1,1"), 400},
	{"version with a letter", line("GET / HTTP/1.x"), 400},
	{"version without a minor", line("GET / HTTP/1"), 400},
	{"version 0.9", line("GET / HTTP/0.9"), 505},
	{"version 1.2", line("GET / HTTP/1.2"), 505},
	{"version 2.0", line("GET / HTTP/2.0"), 505},
	{"two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"LF before", "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"CR before", "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"byte order mark before", "\xef\xbb\xbfGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},

	{"expectation of another kind", post("Expect: 200-ok\r\n"), 417},
	{"two expectations in one", post("Expect: 100-continue, x\r\n"), 417},
	{"two expectations", post("Expect:\r\n", "Expect: 100-continue\r\n"), 417},

	{"no end", "POST / HTTP/1.1\r\nHost: h\r\n" + te, 0},
	{"half an end", "POST / HTTP/1.1\r\nHost: h\r\n" + te + "\r", 0},
	{"spaces around CL, by the law", post("Content-Length:  5 \r\n"), 200},
	{"CL with zeros before, by the law", post("Content-Length: 005\r\n"), 200},
	{"TE without a space, by the law", post("Transfer-Encoding:chunked\r\n"), 200},
	{"tab around TE, by the law", post("Transfer-Encoding:\tchunked\t\r\n"), 200},
	{"near names are others", post("X-Transfer-Encoding: chunked\r\n", "Content-Lengths: 6\r\n", cl), 200},
}

func TestSmuggling(t *testing.T) {
	for _, tt := range smuggling {
		var r head.Request
		err := r.Parse([]byte(tt.head))
		if got := outcome(t, err); got != tt.want {
			t.Errorf("%s: Parse(%q): %d (%v), want %d", tt.name, tt.head, got, err, tt.want)
		}
	}
}

func TestMalformedHosts(t *testing.T) {
	for _, host := range []string{
		"", ":80", "h:", "h:x", "h:+1", "h:65536", "h:123456", "h:80:80", "h/", "h/x", "h?x", "h#x", "u@h", "h h", "h\th", "h,g", "h;g", "h%41",
		"%00", "h\\g", "h'g", "(h)", "[", "]", "[]", "[::1", "::1", "[::1]x", "[::1]:", "[127.0.0.1]", "[::1%25eth0]", "[fe80::1%eth0]", "[v1.x]",
		"[g::]", "x[::1]", "h[::1]:80", "\xc3\xa9", "<h>", "\"h\"",
	} {
		for _, form := range []string{"GET / HTTP/1.1\r\nHost: %\r\n\r\n", "GET / HTTP/1.0\r\nHost: %\r\n\r\n", "GET http://%/ HTTP/1.1\r\nHost: %\r\n\r\n"} {
			if strings.Contains(form, "http://%/") && strings.HasPrefix(host, "h/") {
				continue // a path
			}
			b := strings.ReplaceAll(form, "%", host)
			var r head.Request
			if got := outcome(t, r.Parse([]byte(b))); got != 400 {
				t.Errorf("Parse(%q): %d, want 400", b, got)
			}
		}
	}
}
