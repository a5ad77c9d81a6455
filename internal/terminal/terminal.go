// Package terminal is what programs need to know to write for a person's eyes:
// whether there is a terminal, and what must not be sent to one.
package terminal

import (
	"os"
	"strings"
	"unicode"
)

// Is reports whether a person sees what is written or read there.
func Is(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Printable takes away what could command a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
