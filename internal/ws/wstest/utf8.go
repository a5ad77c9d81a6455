package wstest

import (
	"fmt"
	"strings"
)

// greek is the suite's example: eleven bytes.
const greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"

// utf8Handling is groups 6.1 to 6.4.
func utf8Handling() []Case {
	const left, right = "Hello-µ@ßöä", "üàá-UTF-8!!"
	const middle = "middle frame payload"
	surrogate := greek + "\xed\xa0\x80edited"
	beyond := greek + "\xf4\x90\x80\x80edited" // byte 13 shows it
	return []Case{
		answered("6.1.1", together(masked(final|opText, "")), text("")),
		answered("6.1.2", together(masked(opText, ""), masked(cont, ""), masked(final|cont, "")), text("")),
		answered("6.1.3", together(masked(opText, ""), masked(cont, middle), masked(final|cont, "")), text(middle)),
		answered("6.2.1", together(masked(final|opText, left+right)), text(left+right)),
		answered("6.2.2", together(masked(opText, left), masked(final|cont, right)), text(left+right)),
		answered("6.2.3", together(fragments(left+right, 1)), text(left+right)),
		answered("6.2.4", together(fragments(greek, 1)), text(greek)),
		failed("6.3.1", 1007, together(masked(final|opText, surrogate))),
		failed("6.3.2", 1007, together(fragments(surrogate, 1))),
		inFrames("6.4.1", beyond[:11], beyond[11:15], beyond[15:]),
		inFrames("6.4.2", beyond[:12], beyond[12:13], beyond[13:]),
		inChops("6.4.3", masked(final|opText, beyond), 11, 15),
		inChops("6.4.4", masked(final|opText, beyond), 12, 13),
	}
}

// inFrames is a message whose fault shows in the second of three frames.
func inFrames(name, first, second, third string) Case {
	return failFast(name, masked(opText, first), masked(cont, second), masked(final|cont, third))
}

// inChops is a frame, cut at two places of its payload.
func inChops(name string, frame []byte, first, second int) Case {
	const head = 6
	return failFast(name, frame[:head+first], frame[head+first:head+second], frame[head+second:])
}

func failFast(name string, first, second, third []byte) Case {
	return Case{
		Name:      name,
		Writes:    []Write{{None, first}, {Quiet, second}, {Missed, third}},
		Codes:     []uint16{1007},
		NonStrict: true,
	}
}

// sequences are payloads of one kind, all valid or not.
type sequences struct {
	valid    bool
	payloads []string
}

// utf8Sequences is groups 6.5 to 6.23, after Markus Kuhn's decoder test.
func utf8Sequences() []Case {
	var cases []Case
	for group, kinds := range sequenceGroups() {
		i := 0
		for _, kind := range kinds {
			for _, payload := range kind.payloads {
				i++
				name, writes := fmt.Sprintf("6.%d.%d", group+5, i), together(masked(final|opText, payload))
				if kind.valid {
					cases = append(cases, answered(name, writes, text(payload)))
				} else {
					cases = append(cases, failed(name, 1007, writes))
				}
			}
		}
	}
	return cases
}

func sequenceGroups() [][]sequences {
	good := func(payloads ...string) sequences { return sequences{true, payloads} }
	bad := func(payloads ...string) sequences { return sequences{false, payloads} }
	lastMissing := []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}
	return [][]sequences{
		{good("hello\x24world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld", "hello\xf0\xa4\xad\xa2world", greek)},
		prefixes(greek),
		{good("\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80")},
		{bad("\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80")},
		{good("\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf")},
		{bad("\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf")},
		{good("\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"), bad("\xf4\x90\x80\x80")},
		{bad("\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80",
			"\x80\xbf\x80\xbf\x80\xbf", byteRange(0x80, 0xbf, ""))},
		{bad(byteRange(0xc0, 0xdf, " "), byteRange(0xe0, 0xef, " "), byteRange(0xf0, 0xf7, " "),
			byteRange(0xf8, 0xfb, " "), byteRange(0xfc, 0xfd, " "))},
		{bad(lastMissing...)},
		{bad(strings.Join(lastMissing, ""))},
		{bad("\xfe", "\xff", "\xfe\xfe\xff\xff")},
		{bad("\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf")},
		{bad("\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf")},
		{bad("\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80")},
		{bad("\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf")},
		{bad("\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf")},
		{good(nonCharacters()...)},
		{good("\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf")},
	}
}

// prefixes are valid where they end with a rune.
func prefixes(s string) []sequences {
	var all []sequences
	for i := 1; i <= len(s); i++ {
		ends := i == len(s) || s[i]&0xC0 != 0x80
		all = append(all, sequences{ends, []string{s[:i]}})
	}
	return all
}

// byteRange is the bytes from first up to before end, each with a suffix.
func byteRange(first, end byte, suffix string) string {
	var b strings.Builder
	for c := first; c < end; c++ {
		b.WriteByte(c)
		b.WriteString(suffix)
	}
	return b.String()
}

// nonCharacters are the last two code points of each plane.
func nonCharacters() []string {
	all := []string{"\ufffe", "\uffff"}
	for plane := rune(1); plane <= 16; plane++ {
		all = append(all, string(plane<<16|0xFFFE), string(plane<<16|0xFFFF))
	}
	return all
}
