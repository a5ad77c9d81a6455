package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/chappe/chappe"

// mayImport is the table of ARCHITECTURE.md: folder, and which of our folders
// it may import. internal is open to all; a folder that is not here fails.
var mayImport = map[string][]string{
	".":                       {"*"},
	"event":                   {},
	"config":                  {"event"},
	"account":                 {"event"},
	"client":                  {},
	"examples/stacosys":       {},
	"examples/webmail":        {},
	"source":                  {"event", "account"},
	"source/feed":             {"event", "source"},
	"source/mailbox":          {"event", "source"},
	"bus":                     {"event", "account"},
	"front":                   {"event"},
	"deliver/push":            {"event", "account", "front"},
	"deliver/push/centrifuge": {"event", "account", "front", "deliver/push"},
	"deliver/gateway":         {"event", "account", "front", "deliver/gateway/route"},
	"deliver/gateway/route":   {"event"},
	"api":                     {"event", "account", "source", "savings", "deliver/push", "deliver/gateway"},
	"console":                 {"event", "account", "source", "savings", "deliver/push"},
	"store":                   {"event", "account", "source"},
	"store/storetest":         {"event", "account", "source", "store"},

	// Plumbing without domain meaning: it knows none of the others.
	"internal/backoff":       {},
	"internal/clientip":      {},
	"internal/coding":        {},
	"internal/dovecot":       {},
	"internal/head":          {},
	"internal/head/headtest": {},
	"internal/listen":        {},
	"internal/index":         {"internal/slab"},
	"internal/loadreport":    {"internal/terminal"},
	"internal/loop":          {"internal/slab"},
	"internal/memory":        {},
	"internal/problem":       {},
	"internal/prepared":      {},
	"internal/progress":      {},
	"internal/rfc9111":       {},
	"internal/safedial":      {},
	"internal/slab":          {},
	"internal/swarm":         {},
	"internal/terminal":      {},
	"internal/upstream":      {"internal/head"},
	"internal/waitlist":      {},
	"internal/ws":            {},
	"internal/ws/wstest":     {},
}

const (
	maxPackageLines = 2500
	maxFileLines    = 800
)

// goPackage is a folder with Go files, tests not counted.
type goPackage struct {
	folder  string
	files   map[string]*ast.File
	lines   map[string]int
	imports []string
}

func readPackages(t *testing.T) []*goPackage {
	t.Helper()
	byFolder := map[string]*goPackage{}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && skipFolder(name, entry.Name()) {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return addFile(byFolder, filepath.ToSlash(name))
	})
	if err != nil {
		t.Fatal(err)
	}
	packages := make([]*goPackage, 0, len(byFolder))
	for _, p := range byFolder {
		packages = append(packages, p)
	}
	return packages
}

// skipFolder leaves out what is not built with us, and other modules.
func skipFolder(name, base string) bool {
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil || base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".")
}

func addFile(byFolder map[string]*goPackage, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(gotoken.NewFileSet(), name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	folder := path.Dir(name)
	p := byFolder[folder]
	if p == nil {
		p = &goPackage{folder: folder, files: map[string]*ast.File{}, lines: map[string]int{}}
		byFolder[folder] = p
	}
	p.files[name], p.lines[name] = file, bytes.Count(text, []byte("\n"))
	for _, spec := range file.Imports {
		if ours, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module+"/"); ok {
			p.imports = append(p.imports, ours)
		}
	}
	return nil
}

func TestArchImports(t *testing.T) {
	for _, p := range readPackages(t) {
		allowed, known := mayImport[p.folder]
		if !known {
			t.Errorf("folder %s has no row in the import table", p.folder)
			continue
		}
		for _, imported := range p.imports {
			plumbing := strings.HasPrefix(imported, "internal/") && !strings.HasPrefix(p.folder, "internal/")
			if !plumbing && !slices.Contains(allowed, imported) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s, which its row does not allow", p.folder, imported)
			}
		}
	}
}

func TestArchSizes(t *testing.T) {
	for _, p := range readPackages(t) {
		total := 0
		for name, lines := range p.lines {
			if lines > maxFileLines {
				t.Errorf("%s has %d lines, at most %d", name, lines, maxFileLines)
			}
			total += lines
		}
		if total > maxPackageLines {
			t.Errorf("%s has %d lines, at most %d", p.folder, total, maxPackageLines)
		}
	}
}

func TestArchPackageComments(t *testing.T) {
	for _, p := range readPackages(t) {
		comments := 0
		for _, file := range p.files {
			if file.Doc != nil {
				comments++
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments, want one", p.folder, comments)
		}
	}
}
