package head

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
)

const (
	proxyText   = "PROXY "
	proxyBinary = "\r\n\r\n\x00\r\nQUIT\n"

	maxProxyLine = 107     // version 1, CRLF included
	maxProxyTLVs = 4 << 10 // version 2, after the addresses
	unixLen      = 2 * 108 // the longest addresses
)

// ParseProxy reads the header of the PROXY protocol (haproxy's
// doc/proxy-protocol.txt), version 1 or 2, from the beginning of b. n is its
// length. src is the client's address, an IPv4 one as such and never mapped;
// it is invalid if the header names none (LOCAL, UNKNOWN, UNSPEC, AF_UNIX):
// then the peer's own holds. Errors are as those of Parse, and the connection
// is to be closed. Call it only for peers that are trusted: the header cannot
// be told from one that a client made.
func ParseProxy(b []byte) (src netip.AddrPort, n int, err error) {
	switch {
	case len(b) == 0:
		return netip.AddrPort{}, 0, ErrIncomplete
	case begins(b, proxyText):
		return parseProxyLine(b[:min(len(b), maxProxyLine)])
	case begins(b, proxyBinary):
		return parseProxyBinary(b)
	}
	return netip.AddrPort{}, 0, bad("no PROXY header")
}

// begins tells whether b begins with s or, while shorter, may still do so.
func begins(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}

func parseProxyLine(b []byte) (src netip.AddrPort, n int, err error) {
	end := 0
	for end < len(b) && chars[b[end]]&isPrint != 0 && b[end] != '\t' {
		end++
	}
	n, err = crlf(b, end)
	if len(b) == maxProxyLine && errors.Is(err, ErrIncomplete) {
		err = bad("PROXY line above 107 bytes")
	}
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	src, ok := proxyLineSource(string(b[len(proxyText):end]))
	if !ok {
		return netip.AddrPort{}, 0, bad("malformed PROXY line")
	}
	return src, n, nil
}

// proxyLineSource reads what follows "PROXY ": after UNKNOWN anything may.
func proxyLineSource(line string) (src netip.AddrPort, ok bool) {
	words := strings.Split(line, " ")
	if words[0] == "UNKNOWN" {
		return src, true
	}
	if words[0] != "TCP4" && words[0] != "TCP6" || len(words) != 5 {
		return src, false
	}
	four := words[0] == "TCP4"
	src, ok = proxyAddress(four, words[1], words[3])
	_, dstOK := proxyAddress(four, words[2], words[4])
	return src, ok && dstOK
}

func proxyAddress(four bool, host, port string) (netip.AddrPort, bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Is4() != four || addr.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, ok := number([]byte(port), 1<<16-1)
	leadingZero := len(port) > 1 && port[0] == '0' // could be meant as octal
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok && !leadingZero
}

func parseProxyBinary(b []byte) (src netip.AddrPort, n int, err error) {
	const fixed = len(proxyBinary) + 4
	if len(b) < fixed {
		return src, 0, ErrIncomplete
	}
	command, family, transport := b[12], b[13]>>4, b[13]&0xf
	if command != 0x20 && command != 0x21 || family > 3 || transport > 2 {
		return src, 0, bad("unknown version, command or family in a PROXY header")
	}
	n = fixed + int(binary.BigEndian.Uint16(b[14:]))
	if n > fixed+unixLen+maxProxyTLVs {
		return src, 0, bad("PROXY header too long")
	}
	if len(b) < n {
		return src, 0, ErrIncomplete
	}
	// What a LOCAL or unspecified connection says of itself is to be ignored.
	if command == 0x20 || family == 0 || transport == 0 {
		return src, n, nil
	}
	addresses := [...]int{1: 2*4 + 2*2, 2: 2*16 + 2*2, 3: unixLen}[family]
	tlvs := fixed + addresses
	if n < tlvs || n-tlvs > maxProxyTLVs || !validTLVs(b[:n], tlvs) {
		return src, 0, bad("malformed PROXY header")
	}
	return proxySource(family, b[fixed:tlvs]), n, nil
}

func proxySource(family byte, b []byte) netip.AddrPort {
	switch family {
	case 1:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:]))
	case 2:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[32:]))
	}
	return netip.AddrPort{}
}

// validTLVs tells whether the vectors that begin at b[at] fill the header b to
// its end and whether a checksum among them, one at most, is that of b.
func validTLVs(b []byte, at int) bool {
	const typeCRC32C = 3
	sum := 0 // where the checksum is
	for at < len(b) {
		if len(b)-at < 3 {
			return false
		}
		value := at + 3
		end := value + int(binary.BigEndian.Uint16(b[at+1:]))
		if end > len(b) {
			return false
		}
		if b[at] == typeCRC32C {
			if sum > 0 || end-value != 4 {
				return false
			}
			sum = value
		}
		at = end
	}
	return sum == 0 || binary.BigEndian.Uint32(b[sum:]) == checksum(b, sum)
}

// checksum is the CRC32c of b with the four bytes at zero in place of its own.
func checksum(b []byte, zero int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	c := crc32.Update(0, table, b[:zero])
	c = crc32.Update(c, table, make([]byte, 4))
	return crc32.Update(c, table, b[zero+4:])
}
