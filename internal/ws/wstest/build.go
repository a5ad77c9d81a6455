package wstest

import (
	"encoding/binary"
	"strings"
)

// The first byte of a frame: final, reserved bits and opcode.
const (
	final = 0x80
	cont  = 0x00
)

// key masks all frames: any but zero does.
var key = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// masked is a client's frame.
func masked(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, final|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, final|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, final|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// fragments is a text message in frames of size bytes.
func fragments(payload string, size int) []byte {
	var b []byte
	first := byte(opText)
	for len(payload) > size {
		b = append(b, masked(first, payload[:size])...)
		first, payload = cont, payload[size:]
	}
	return append(b, masked(final|first, payload)...)
}

func closeFrame(code uint16, reason string) []byte {
	return masked(final|opClose, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// together is one write of all the frames.
func together(frames ...[]byte) []Write {
	return []Write{{Bytes: []byte(join(frames))}}
}

// each is one write a frame.
func each(frames ...[]byte) []Write {
	var writes []Write
	for _, f := range frames {
		writes = append(writes, Write{Bytes: f})
	}
	return writes
}

// chopped is writes of size bytes.
func chopped(size int, frames ...[]byte) []Write {
	var writes []Write
	b := []byte(join(frames))
	for len(b) > size {
		writes, b = append(writes, Write{Bytes: b[:size]}), b[size:]
	}
	return append(writes, Write{Bytes: b})
}

// after has the first write wait.
func after(p Pause, writes []Write) []Write {
	writes[0].Pause = p
	return writes
}

func join(frames [][]byte) string {
	var b strings.Builder
	for _, f := range frames {
		b.Write(f)
	}
	return b.String()
}

func text(payload string) Frame { return Frame{opText, []byte(payload)} }

func pong(payload string) Frame { return Frame{opPong, []byte(payload)} }

// answered is a case that the client ends when it has the answers.
func answered(name string, writes []Write, answers ...Frame) Case {
	return Case{Name: name, Writes: writes, Answers: answers, Closes: true, Codes: []uint16{1000}}
}

// failed is a case that the server must end.
func failed(name string, code uint16, writes []Write, answers ...Frame) Case {
	return Case{Name: name, Writes: writes, Answers: answers, Codes: []uint16{code}, NonStrict: len(answers) > 0}
}

// closed is a case in which the client's close frame stands among its writes.
func closed(name string, writes []Write, codes ...uint16) Case {
	return Case{Name: name, Writes: writes, Codes: codes}
}
