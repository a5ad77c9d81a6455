package head

import "bytes"

// Query calls each with the pairs of a query, decoded, in their order, until it
// returns false. As net/url does, it skips pairs with a bad percent-encoding or
// a semicolon, which separates nothing, and returns the first such error. What
// needs no decoding is a view of query; the rest is copied.
func Query(query []byte, each func(name, value []byte) bool) error {
	var first error
	for len(query) > 0 {
		var pair []byte
		pair, query = cut(query, '&')
		if len(pair) == 0 {
			continue
		}
		name, value, err := decodePair(pair)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		if !each(name, value) {
			break
		}
	}
	return first
}

func decodePair(pair []byte) (name, value []byte, err error) {
	if bytes.IndexByte(pair, ';') >= 0 {
		return nil, nil, bad("semicolon in the query")
	}
	name, value = cut(pair, '=')
	if name, err = decode(name); err != nil {
		return nil, nil, err
	}
	value, err = decode(value)
	return name, value, err
}

// decode undoes the encoding of a query's name or value.
func decode(b []byte) ([]byte, error) {
	if !bytes.ContainsAny(b, "%+") {
		return b, nil
	}
	plain := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '+':
			plain = append(plain, ' ')
		case '%':
			if i+2 >= len(b) {
				return nil, bad("bad percent-encoding in the query")
			}
			high, low := unhex(b[i+1]), unhex(b[i+2])
			if high > 15 || low > 15 {
				return nil, bad("bad percent-encoding in the query")
			}
			plain = append(plain, high<<4|low)
			i += 2
		default:
			plain = append(plain, b[i])
		}
	}
	return plain, nil
}
