package head_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/head"
)

// proxy2 is a header of version 2 around these addresses and vectors.
func proxy2(command, family byte, block ...string) string {
	b := strings.Join(block, "")
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(b) >> 8), byte(len(b))}) + b
}

func tlv(kind byte, value string) string {
	return string([]byte{kind, byte(len(value) >> 8), byte(len(value))}) + value
}

// withChecksum puts the checksum into the last four bytes of header.
func withChecksum(header string) string {
	b := []byte(header)
	at := len(b) - 4
	clear(b[at:])
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

const (
	tcp4 = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x01\xbb"
	v6   = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	v4in = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"
	port = "\x04\xd2\x01\xbb"
)

func TestParseProxy(t *testing.T) {
	unix := strings.Repeat("/", 216)
	crc := tlv(3, "\x00\x00\x00\x00")
	tests := []struct {
		name, header, want string // want "": none
	}{
		{"TCP4", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\n", "192.0.2.1:1234"},
		{"TCP4, largest", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"},
		{"TCP6", "PROXY TCP6 2001:db8::1 2001:DB8::2 0 443\r\n", "[2001:db8::1]:0"},
		{"TCP6, mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1"},
		{"unknown", "PROXY UNKNOWN\r\n", ""},
		{"unknown, with addresses", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", ""},
		{"unknown, longest", "PROXY UNKNOWN " + strings.Repeat("f", 107-16) + "\r\n", ""},

		{"2: TCP4", proxy2(0x21, 0x11, tcp4), "192.0.2.1:1234"},
		{"2: UDP4", proxy2(0x21, 0x12, tcp4), "192.0.2.1:1234"},
		{"2: TCP6", proxy2(0x21, 0x21, v6, v6, port), "[2001:db8::1]:1234"},
		{"2: TCP6, mapped", proxy2(0x21, 0x21, v4in, v6, port), "192.0.2.1:1234"},
		{"2: Unix", proxy2(0x21, 0x31, unix), ""},
		{"2: Unix and vectors", proxy2(0x21, 0x32, unix, tlv(4, "")), ""},
		{"2: local", proxy2(0x20, 0x00), ""},
		{"2: local with addresses", proxy2(0x20, 0x11, tcp4), ""},
		{"2: local with anything", proxy2(0x20, 0x21, "x"), ""},
		{"2: unspecified", proxy2(0x21, 0x00, "x"), ""},
		{"2: unspecified transport", proxy2(0x21, 0x10, tcp4), ""},
		{"2: vectors", proxy2(0x21, 0x11, tcp4, tlv(1, "h2"), tlv(2, "h"), tlv(4, ""), tlv(0xe0, "x")), "192.0.2.1:1234"},
		{"2: vectors of 4 KiB", proxy2(0x21, 0x11, tcp4, tlv(4, strings.Repeat("x", 4093))), "192.0.2.1:1234"},
		{"2: checksum", withChecksum(proxy2(0x21, 0x11, tcp4, tlv(1, "h2"), crc)), "192.0.2.1:1234"},
	}
	for _, tt := range tests {
		src, n, err := head.ParseProxy([]byte(tt.header + "GET"))
		if n != len(tt.header) || err != nil || src.IsValid() != (tt.want != "") || src.IsValid() && src.String() != tt.want {
			t.Errorf("%s: ParseProxy(%q) = %v, %d, %v, want %s", tt.name, tt.header, src, n, err, tt.want)
		}
		checkProxyPrefixes(t, tt.header)
	}
}

func checkProxyPrefixes(t *testing.T, header string) {
	t.Helper()
	for n := 0; n < len(header); n += 1 + len(header)/2000 {
		if _, _, err := head.ParseProxy([]byte(header[:n])); outcome(t, err) != 0 {
			t.Errorf("ParseProxy(%q): %v, want ErrIncomplete", header[:n], err)
		}
	}
}

func TestParseProxyRefuses(t *testing.T) {
	crc := withChecksum(proxy2(0x21, 0x11, tcp4, tlv(3, "\x00\x00\x00\x00")))
	for name, header := range map[string]string{
		"HTTP":               "GET / HTTP/1.1\r\n",
		"HTTP with P":        "POST / HTTP/1.1\r\n",
		"empty line":         "\r\nGET",
		"lower case":         "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
		"no space":           "PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n",
		"two spaces":         "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
		"two spaces within":  "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
		"space at the end":   "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
		"tab":                "PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
		"bare LF":            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
		"bare CR":            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rG",
		"NUL":                "PROXY UNKNOWN \x00\r\n",
		"nothing":            "PROXY \r\n",
		"other protocol":     "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
		"unknown, longer":    "PROXY UNKNOWNS\r\n",
		"no ports":           "PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
		"one more":           "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
		"TCP4 of IPv6":       "PROXY TCP4 ::1 ::1 1 2\r\n",
		"TCP6 of IPv4":       "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
		"mixed":              "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
		"zone":               "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"zeros before":       "PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n",
		"three numbers":      "PROXY TCP4 192.0.513 192.0.2.2 1 2\r\n",
		"name":               "PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
		"bad target":         "PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n",
		"port with zero":     "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
		"port with sign":     "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
		"port too high":      "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
		"port of the target": "PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n",
		"empty port":         "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
		"108 bytes":          "PROXY UNKNOWN " + strings.Repeat("f", 108-16) + "\r\n",
		"endless":            "PROXY UNKNOWN " + strings.Repeat("f", 108),

		"2: version 1":          proxy2(0x11, 0x11, tcp4),
		"2: version 3":          proxy2(0x31, 0x11, tcp4),
		"2: command 2":          proxy2(0x22, 0x11, tcp4),
		"2: family 4":           proxy2(0x21, 0x41, tcp4),
		"2: transport 3":        proxy2(0x21, 0x13, tcp4),
		"2: other signature":    "\r\n\r\n\x00\r\nQUIT\r!\x11\x00\x0c" + tcp4,
		"2: too short for IPv4": proxy2(0x21, 0x11, tcp4[1:]),
		"2: too short for IPv6": proxy2(0x21, 0x21, tcp4),
		"2: too short for Unix": proxy2(0x21, 0x31, tcp4),
		"2: too long":           proxy2(0x20, 0x11, strings.Repeat("x", 216+4097)),
		"2: vectors too long":   proxy2(0x21, 0x11, tcp4, tlv(4, strings.Repeat("x", 4094))),
		"2: vector cut":         proxy2(0x21, 0x11, tcp4, "\x04\x00"),
		"2: vector too long":    proxy2(0x21, 0x11, tcp4, "\x04\x00\x01"),
		"2: checksum wrong":     crc[:len(crc)-1] + string(crc[len(crc)-1]^1),
		"2: checksum of header": strings.Replace(crc, "\xc0\x00\x02\x01", "\xc0\x00\x02\x09", 1),
		"2: checksum cut":       proxy2(0x21, 0x11, tcp4, tlv(3, "\x00\x00\x00")),
		"2: two checksums":      withChecksum(proxy2(0x21, 0x11, tcp4, tlv(3, "\x00\x00\x00\x00"), tlv(3, "\x00\x00\x00\x00"))),
	} {
		if src, n, err := head.ParseProxy([]byte(header + "GET")); outcome(t, err) != 400 || src.IsValid() || n != 0 {
			t.Errorf("%s: ParseProxy(%q) = %v, %d, %v", name, header, src, n, err)
		}
	}
}

func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\nGET"), []byte("\xc0\x00\x02\x01"), uint16(443))
	f.Add([]byte("PROXY UNKNOWN\r\n"), []byte(v6), uint16(0))
	f.Add([]byte(proxy2(0x21, 0x21, v6, v6, port, tlv(4, "x"))), []byte(v4in), uint16(65535))
	f.Add([]byte(proxy2(0x20, 0)), []byte{}, uint16(1))
	f.Fuzz(func(t *testing.T, b, ip []byte, number uint16) {
		src, n, err := head.ParseProxy(b)
		if outcome(t, err) == 200 {
			checkProxyPrefixes(t, string(b[:n]))
			if again, m, err := head.ParseProxy(b[:n]); again != src || m != n || err != nil {
				t.Errorf("what follows the header changes it: %v, %v", src, again)
			}
		}
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		checkRoundTrip(t, addr, number)
	})
}

// checkRoundTrip wants the address from headers that were made of it.
func checkRoundTrip(t *testing.T, addr netip.Addr, number uint16) {
	kind, family := "TCP6", byte(0x21)
	if addr.Is4() {
		kind, family = "TCP4", 0x11
	}
	ports := binary.BigEndian.AppendUint16(nil, number)
	raw := string(addr.AsSlice())
	for _, header := range []string{
		fmt.Sprintf("PROXY %s %s %s %d 443\r\n", kind, addr, addr, number),
		withChecksum(proxy2(0x21, family, raw, raw, string(ports), "\x01\xbb", tlv(3, "\x00\x00\x00\x00"))),
	} {
		src, n, err := head.ParseProxy([]byte(header))
		if want := netip.AddrPortFrom(addr.Unmap(), number); src != want || n != len(header) || err != nil {
			t.Errorf("ParseProxy(%q) = %v, %d, %v, want %v", header, src, n, err, want)
		}
	}
}
