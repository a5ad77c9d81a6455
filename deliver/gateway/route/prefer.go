package route

import (
	"strconv"
	"strings"
	"time"
)

// maxWait is how long a client may wait for a change; proxies give up after 60 s.
const maxWait = 55 * time.Second

// Wait is how long the client is willing to wait, by Prefer: wait=30 (RFC
// 7240 §4.3).
func Wait(prefer string) time.Duration {
	for item := range strings.SplitSeq(prefer, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0
		}
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	return 0
}
