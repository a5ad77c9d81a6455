package event

import (
	"math"
	"strconv"
	"strings"
)

// ByteSize is a number of bytes, written 4096, 256KiB, 1GiB or 8MB.
type ByteSize int64

var byteUnits = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText parses a size in a configuration file.
func (s *ByteSize) UnmarshalText(text []byte) error {
	digits, factor := strings.TrimSpace(string(text)), int64(1)
	for _, u := range byteUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, factor = strings.TrimSpace(d), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return invalid("size", "%q is not a size; write one like 256KiB or 1GiB", text)
	}
	*s = ByteSize(n * factor)
	return nil
}

func (s ByteSize) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if f := byteUnits[u].factor; s != 0 && int64(s)%f == 0 {
			return strconv.FormatInt(int64(s)/f, 10) + byteUnits[u].suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
