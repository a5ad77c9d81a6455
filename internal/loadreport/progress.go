package loadreport

import (
	"fmt"
	"io"
	"time"
)

// Progress is one line on a terminal, written over and over. The zero value
// shows nothing.
type Progress struct {
	Terminal io.Writer // nil: there is none
	shown    time.Time
}

// Show writes the line, unless it did a moment ago.
func (p *Progress) Show(format string, args ...any) {
	if p.Terminal == nil || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.Terminal, "\r\x1b[K"+format, args...)
}

// Clear takes the line away.
func (p *Progress) Clear() {
	if p.Terminal != nil {
		fmt.Fprintf(p.Terminal, "\r\x1b[K")
	}
}
