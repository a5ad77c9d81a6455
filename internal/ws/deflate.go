package ws

import (
	"compress/flate"
	"errors"
	"io"
	"sync"
)

// inflaters and deflaters are pooled so that no session holds one: an inflater
// has about 60 KiB, a deflater about 1.2 MiB.
var (
	inflaters = sync.Pool{New: func() any { return new(inflater) }}
	deflaters = sync.Pool{New: func() any { return new(deflater) }}
)

const (
	// flushTail is what a sender leaves away (RFC 7692 §7.2.1); the final
	// empty block after it lets the inflating end.
	flushTail   = "\x00\x00\xff\xff"
	inflateTail = flushTail + "\x01\x00\x00\xff\xff"

	// maxStreams bounds the final blocks within a message: each costs a
	// reset.
	maxStreams = 16
)

// inflater inflates one message at a time.
type inflater struct {
	source  source
	flate   io.ReadCloser // nil before the first message
	streams int           // begun in this message
	scratch [16 << 10]byte
}

// source is a message's payload followed by inflateTail.
type source struct {
	payload []byte
	next    int
}

func (s *source) rest() (payload []byte, tail string) {
	if s.next < len(s.payload) {
		return s.payload[s.next:], inflateTail
	}
	return nil, inflateTail[s.next-len(s.payload):]
}

func (s *source) Read(p []byte) (int, error) {
	payload, tail := s.rest()
	n := copy(p, payload)
	n += copy(p[n:], tail)
	s.next += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// ReadByte is what keeps flate from reading beyond the end of a stream.
func (s *source) ReadByte() (byte, error) {
	payload, tail := s.rest()
	switch {
	case len(payload) > 0:
		s.next++
		return payload[0], nil
	case tail != "":
		s.next++
		return tail[0], nil
	}
	return 0, io.EOF
}

func (f *inflater) release() {
	f.source = source{}
	inflaters.Put(f)
}

// inflate returns what payload expands to. The result is f's: it is valid
// until f's release or next use.
//
// A message beyond f's scratch is inflated twice, first only to be measured:
// one that is too big never gets memory.
func (f *inflater) inflate(payload []byte, limit int) ([]byte, *CloseError) {
	size, err := f.measure(payload, limit)
	if err != nil {
		return nil, err
	}
	if size <= len(f.scratch) {
		return f.scratch[:size], nil
	}
	out := make([]byte, size)
	f.start(payload)
	if _, _, err := f.fill(out); err != nil {
		return nil, errDeflate
	}
	return out, nil
}

// measure leaves the inflated message in f.scratch if it fits there.
func (f *inflater) measure(payload []byte, limit int) (int, *CloseError) {
	f.start(payload)
	for size := 0; ; {
		n, done, err := f.fill(f.scratch[:])
		size += n
		switch {
		case size > limit:
			return 0, errTooBig
		case err != nil:
			return 0, errDeflate
		case done:
			return size, nil
		}
	}
}

// fill reads until p is full or the message done.
func (f *inflater) fill(p []byte) (n int, done bool, err error) {
	for n < len(p) {
		read, err := f.flate.Read(p[n:])
		n += read
		if errors.Is(err, io.EOF) {
			done, err = f.nextStream()
		}
		if done || err != nil {
			return n, done, err
		}
	}
	return n, false, nil
}

func (f *inflater) start(payload []byte) {
	f.source = source{payload: payload}
	f.streams = 0
	f.startStream()
}

func (f *inflater) startStream() {
	f.streams++
	if f.flate == nil {
		f.flate = flate.NewReader(&f.source)
		return
	}
	_ = f.flate.(flate.Resetter).Reset(&f.source, nil) // fails never
}

// nextStream is called where a final block ended. RFC 7692 §7.2.1 allows the
// client to use those: what follows begins at the next byte. (It begins with
// an empty window here, as every encoder does that resets itself; the RFC
// leaves that open.) After an end within the tail, the rest of that is broken
// or the empty block.
func (f *inflater) nextStream() (done bool, err error) {
	switch f.source.next - len(f.source.payload) {
	case 0, len(inflateTail):
		return true, nil // the client's last block was final, or ours is
	}
	if f.streams == maxStreams {
		return false, errDeflate
	}
	f.startStream()
	return false, nil
}

// deflater compresses one message at a time.
type deflater struct {
	flate *flate.Writer // nil before the first message
	out   []byte
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// deflate returns payload compressed, valid until d's next use.
func (d *deflater) deflate(payload []byte) ([]byte, error) {
	d.out = d.out[:0]
	if d.flate == nil {
		// The fastest: the others clear 650 KiB of tables for each message.
		w, err := flate.NewWriter(d, flate.BestSpeed)
		if err != nil {
			return nil, err
		}
		d.flate = w
	} else {
		d.flate.Reset(d)
	}
	if _, err := d.flate.Write(payload); err != nil {
		return nil, err
	}
	if err := d.flate.Flush(); err != nil {
		return nil, err
	}
	return d.out[:len(d.out)-len(flushTail)], nil
}

// keepOutput is the largest buffer that a pooled deflater keeps.
const keepOutput = 64 << 10

func (d *deflater) release() {
	if cap(d.out) > keepOutput {
		d.out = nil
	}
	deflaters.Put(d)
}

// AppendDeflated appends payload, of a text or binary message, as one final
// frame, compressed without context takeover (RFC 7692 §7.2.1). When that
// would not make it smaller, the frame is an uncompressed one.
func AppendDeflated(dst []byte, op Op, payload []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer d.release()
	compressed, err := d.deflate(payload)
	if err != nil || len(compressed) >= len(payload) {
		return AppendFrame(dst, op, payload)
	}
	return append(appendHead(dst, bitFinal|bitRSV1|byte(op), len(compressed)), compressed...)
}
