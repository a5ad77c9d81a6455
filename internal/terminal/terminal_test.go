package terminal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/terminal"
)

func TestIs(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if terminal.Is(file) || terminal.Is(&strings.Builder{}) || terminal.Is(nil) {
		t.Error("a file, a buffer or nothing is taken for a terminal")
	}
}

func TestPrintable(t *testing.T) {
	if got := terminal.Printable("a\x1b[31m\x00\r\nb\x7f\u009b31mé"); got != "a[31mb31mé" {
		t.Errorf("Printable = %q", got)
	}
}
