package rfc9111

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RangeVerdict is what to do about a Range field.
type RangeVerdict int

const (
	RangeWhole         RangeVerdict = iota // ignore it, answer 200
	RangePart                              // answer 206
	RangeUnsatisfiable                     // answer 416
)

// Range finds the part of a stored representation that a request is for (RFC 9110
// §14.2): from start to before end. More than one range, and what is not
// understood, is a request for the whole.
func Range(header, ifRange string, stored http.Header, size int64) (start, end int64, v RangeVerdict) {
	unit, spec, _ := strings.Cut(header, "=")
	from, to, found := strings.Cut(trim(spec), "-")
	first, okFirst := digits(from, math.MaxInt64)
	last, okLast := digits(to, math.MaxInt64)
	switch {
	case !found || !strings.EqualFold(trim(unit), "bytes") || size < 0 || !rangeHolds(ifRange, stored):
		return 0, size, RangeWhole
	case from == "" && okLast && (size > 0 || last == 0):
		first, last = size-min(last, size), size-1 // RFC 9110 §14.1.2: the last bytes
	case to == "" && okFirst:
		last = math.MaxInt64
	case !okFirst || !okLast || last < first:
		return 0, size, RangeWhole
	}
	if first >= size {
		return 0, 0, RangeUnsatisfiable // RFC 9110 §15.5.17
	}
	return first, min(last, size-1) + 1, RangePart
}

// rangeHolds evaluates If-Range by strong comparison (RFC 9110 §13.1.5).
func rangeHolds(ifRange string, stored http.Header) bool {
	if ifRange == "" {
		return true
	}
	wanted, isDate := ParseDate(ifRange)
	if !isDate {
		return isStrong(ifRange) && ifRange == stored.Get("ETag")
	}
	modified, ok := ParseDate(stored.Get("Last-Modified"))
	if !ok || !modified.Equal(wanted) {
		return false
	}
	// RFC 9110 §8.8.2.2: within the second of the change there may have been others.
	made, ok := ParseDate(stored.Get("Date"))
	return ok && made.Sub(modified) >= time.Second
}

// Part cuts the range that in asks for out of a whole representation with the
// header h, which it adapts (RFC 9110 §15.3.7, §15.5.17); code is the status of
// the whole one.
func Part(h, in http.Header, body []byte, code int) ([]byte, int) {
	size := int64(len(body))
	start, end, verdict := Range(strings.Join(in["Range"], ","), in.Get("If-Range"), h, size)
	switch verdict {
	case RangePart:
		h.Set("Content-Range", "bytes "+strconv.FormatInt(start, 10)+"-"+strconv.FormatInt(end-1, 10)+"/"+strconv.FormatInt(size, 10))
		h.Set("Content-Length", strconv.FormatInt(end-start, 10))
		return body[start:end], http.StatusPartialContent
	case RangeUnsatisfiable:
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		h.Set("Content-Length", "0")
		return nil, http.StatusRequestedRangeNotSatisfiable
	}
	return body, code
}
