package wstest

import (
	"fmt"
	"slices"
	"strings"
)

const (
	hello  = "Hello, world!"
	octets = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
)

// Cases are all cases, in the suite's order: 247.
func Cases() []Case {
	return slices.Concat(
		framing(), pings(), reservedBits(), opcodes(), fragmentation(),
		utf8Handling(), utf8Sequences(), closing(), closeCodes(), autoFragments(),
	)
}

// framing is group 1: messages of sizes at which the head changes.
func framing() []Case {
	var cases []Case
	for group, kind := range []struct {
		op   byte
		fill string
	}{{opText, "*"}, {opBinary, "\xfe"}} {
		for i, size := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
			payload := strings.Repeat(kind.fill, size)
			writes := together(masked(final|kind.op, payload))
			if i == 7 {
				writes = chopped(997, masked(final|kind.op, payload))
			}
			cases = append(cases, answered(fmt.Sprintf("1.%d.%d", group+1, i+1), writes,
				Frame{kind.op, []byte(payload)}))
		}
	}
	return cases
}

func ping(payload string) []byte { return masked(final|opPing, payload) }

// pings is group 2.
func pings() []Case {
	full := strings.Repeat("\xfe", 125)
	normal := closeFrame(1000, "")
	unsolicited := masked(final|opPong, "unsolicited pong payload")
	var ten [][]byte
	var tenPongs []Frame
	for i := range 10 {
		payload := fmt.Sprintf("payload-%d", i)
		ten, tenPongs = append(ten, ping(payload)), append(tenPongs, pong(payload))
	}
	return []Case{
		answered("2.1", together(ping("")), pong("")),
		answered("2.2", together(ping(hello)), pong(hello)),
		answered("2.3", together(ping(octets)), pong(octets)),
		answered("2.4", together(ping(full)), pong(full)),
		failed("2.5", 1002, together(ping(full+"\xfe"))),
		answered("2.6", chopped(1, ping(full)), pong(full)),
		closed("2.7", each(masked(final|opPong, ""), normal), 1000),
		closed("2.8", each(unsolicited, normal), 1000),
		answered("2.9", each(unsolicited, ping("ping payload")), pong("ping payload")),
		answered("2.10", each(ten...), tenPongs...),
		answered("2.11", chopped(1, ten...), tenPongs...),
	}
}

// reservedBits is group 3: RSV is 1 to 7.
func reservedBits() []Case {
	rsv := func(bits, op byte, payload string) []byte { return masked(final|bits<<4|op, payload) }
	good := masked(final|opText, hello)
	return []Case{
		failed("3.1", 1002, together(rsv(1, opText, hello))),
		failed("3.2", 1002, together(good, rsv(2, opText, hello), ping("")), text(hello)),
		failed("3.3", 1002, each(good, rsv(3, opText, hello), ping("")), text(hello)),
		failed("3.4", 1002, chopped(1, good, rsv(4, opText, hello), ping("")), text(hello)),
		failed("3.5", 1002, together(rsv(5, opBinary, octets))),
		failed("3.6", 1002, together(rsv(6, opBinary, hello))),
		failed("3.7", 1002, together(rsv(7, opClose, ""))),
	}
}

// opcodes is group 4: the reserved ones.
func opcodes() []Case {
	var cases []Case
	good := masked(final|opText, hello)
	for group, first := range []byte{3, 11} {
		for i := range byte(5) {
			name := fmt.Sprintf("4.%d.%d", group+1, i+1)
			reserved := masked(final|(first+i), []string{"", "reserved opcode payload", "", hello, hello}[i])
			switch {
			case i < 2:
				cases = append(cases, failed(name, 1002, together(reserved)))
			case i < 4:
				cases = append(cases, failed(name, 1002, together(good, reserved, ping("")), text(hello)))
			default:
				cases = append(cases, failed(name, 1002, chopped(1, good, reserved, ping("")), text(hello)))
			}
		}
	}
	return cases
}

// fragmentation is group 5.
func fragmentation() []Case {
	one, two, whole := masked(opText, "fragment1"), masked(final|cont, "fragment2"), text("fragment1fragment2")
	between := ping("ping payload")
	good := masked(final|opText, hello)
	lonelyEnd := masked(final|cont, "non-continuation payload")
	lonely := masked(cont, "non-continuation payload")
	return []Case{
		failed("5.1", 1002, together(masked(opPing, "fragment1"), two)),
		failed("5.2", 1002, together(masked(opPong, "fragment1"), two)),
		answered("5.3", together(one, two), whole),
		answered("5.4", each(one, two), whole),
		answered("5.5", chopped(1, one, two), whole),
		answered("5.6", together(one, between, two), pong("ping payload"), whole),
		answered("5.7", each(one, between, two), pong("ping payload"), whole),
		answered("5.8", chopped(1, one, between, two), pong("ping payload"), whole),
		failed("5.9", 1002, together(lonelyEnd, good)),
		failed("5.10", 1002, each(lonelyEnd, good)),
		failed("5.11", 1002, chopped(1, lonelyEnd, good)),
		failed("5.12", 1002, together(lonely, good)),
		failed("5.13", 1002, each(lonely, good)),
		failed("5.14", 1002, chopped(1, lonely, good)),
		failed("5.15", 1002, together(one, two, masked(cont, "fragment3"), masked(final|opText, "fragment4")), whole),
		failed("5.16", 1002, twice(masked(cont, "fragment1"), masked(opText, "fragment2"), masked(final|cont, "fragment3"))),
		failed("5.17", 1002, twice(masked(final|cont, "fragment1"), masked(opText, "fragment2"), masked(final|cont, "fragment3"))),
		failed("5.18", 1002, together(one, masked(final|opText, "fragment2"))),
		fiveFragments("5.19", together),
		fiveFragments("5.20", each),
	}
}

func twice(frames ...[]byte) []Write { return together(slices.Repeat(frames, 2)...) }

// fiveFragments has a ping within the message before the pause and after it.
func fiveFragments(name string, write func(...[]byte) []Write) Case {
	writes := slices.Concat(
		write(masked(opText, "fragment1"), masked(cont, "fragment2"), ping("pongme 1!")),
		after(Answer, write(masked(cont, "fragment3"), masked(cont, "fragment4"), ping("pongme 2!"),
			masked(final|cont, "fragment5"))),
	)
	return answered(name, writes, pong("pongme 1!"), pong("pongme 2!"),
		text("fragment1fragment2fragment3fragment4fragment5"))
}

// closing is groups 7.1 to 7.5.
func closing() []Case {
	const greeting = "Hello World!"
	normal, message := closeFrame(1000, ""), masked(final|opText, greeting)
	large := strings.Repeat("BAsd7&jh23", 256<<10/10+1)[:256<<10]
	return []Case{
		answered("7.1.1", together(message), text(greeting)),
		closed("7.1.2", together(normal, masked(final|opClose, "")), 1000),
		closed("7.1.3", together(normal, ping("")), 1000),
		closed("7.1.4", together(normal, message), 1000),
		closed("7.1.5", together(masked(opText, "fragment1"), normal, masked(final|cont, "fragment2")), 1000),
		{
			Name: "7.1.6", Writes: together(masked(final|opText, large), message, normal, ping("")),
			Codes: []uint16{1000, 1009}, Informational: true,
		},
		closed("7.3.1", together(masked(final|opClose, "")), 1000, noCode),
		closed("7.3.2", together(masked(final|opClose, "a")), 1002),
		closed("7.3.3", together(normal), 1000),
		closed("7.3.4", together(closeFrame(1000, greeting)), 1000),
		closed("7.3.5", together(closeFrame(1000, strings.Repeat("*", 123))), 1000),
		closed("7.3.6", together(closeFrame(1000, strings.Repeat("*", 124))), 1002),
		closed("7.5.1", together(closeFrame(1000, greek+"\xed\xa0\x80edited")), 1002, 1007),
	}
}

// closeCodes is groups 7.7 to 7.13.
func closeCodes() []Case {
	var cases []Case
	add := func(group, i int, sent uint16, codes ...uint16) {
		cases = append(cases, closed(fmt.Sprintf("7.%d.%d", group, i+1), together(closeFrame(sent, "")), codes...))
	}
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		add(7, i, code, 1000, code)
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		add(9, i, code, 1002)
	}
	for i, code := range []uint16{5000, 65535} { // undefined by the RFC, says the suite
		add(13, i, code, 1000, code, 1002)
	}
	return cases
}

// autoFragments is group 10.
func autoFragments() []Case {
	payload := strings.Repeat("*", 65536)
	return []Case{answered("10.1.1", together(fragments(payload, 1300)), text(payload))}
}
