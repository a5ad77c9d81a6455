package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/config"
)

var update = flag.Bool("update", false, "write docs/config.md anew")

// The reference of the configuration is made from the fields' comments.
func TestConfigReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Configuration\n\nEvery key of `chappe.yaml`, made from the comments in the code. All are optional; an unknown key stops the\nstart. Paths are relative to the file. `docs_test.go` writes this page.\n\n| key | value | what |\n|---|---|---|\n")
	describe(t, &b, reflect.TypeFor[settings](), "", map[string]map[string]string{})
	const page = "docs/config.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what the comments say; write it anew: go test . -run TestConfigReference -update", page)
	}
}

func describe(t *testing.T, b *strings.Builder, typ reflect.Type, prefix string, comments map[string]map[string]string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			describe(t, b, f.Type, prefix, comments)
			continue
		}
		comment := commentOf(t, typ, f.Name, comments)
		if comment == "" {
			t.Errorf("%s.%s has no comment", typ, f.Name)
		}
		inner, suffix := f.Type, ""
		if inner.Kind() == reflect.Slice {
			inner, suffix = inner.Elem(), "[]"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", prefix+name+suffix, valueOf(f.Type), comment)
		if inner.Kind() == reflect.Struct && strings.HasPrefix(inner.PkgPath(), module) {
			describe(t, b, inner, prefix+name+suffix+".", comments)
		}
	}
}

func valueOf(typ reflect.Type) string {
	switch {
	case typ.Kind() == reflect.Slice:
		return "list"
	case typ.String() == "time.Duration":
		return "duration: 45s, 720h, 30d"
	case typ.Name() == "ByteSize":
		return "size: 256KiB"
	case typ.Kind() == reflect.Struct:
		return ""
	case typ.Kind() == reflect.Int || typ.Kind() == reflect.Int64:
		return "number"
	case typ.Kind() == reflect.Bool:
		return "true or false"
	}
	return "text"
}

// commentOf is the comment above a field, on one line.
func commentOf(t *testing.T, typ reflect.Type, field string, cache map[string]map[string]string) string {
	t.Helper()
	folder := strings.TrimPrefix(strings.TrimPrefix(typ.PkgPath(), module), "/")
	if typ.PkgPath() == "main" || folder == "" {
		folder = "."
	}
	if cache[folder] == nil {
		cache[folder] = readComments(t, folder)
	}
	return cache[folder][typ.Name()+"."+field]
}

func readComments(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
	return comments
}

// The README's configuration is one that the server takes.
func TestReadmeConfig(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("README.md has no configuration")
	}
	path := filepath.Join(t.TempDir(), "chappe.yaml")
	for name, text := range map[string]string{path: example, filepath.Join(filepath.Dir(path), "alice.pw"): "secret\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := (&flags{config: path}).load()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Topics) != 3 || len(s.Watches) != 2 || s.Server.BaseURL == "" {
		t.Errorf("the README's configuration is read as %+v", s)
	}
	var _ config.Validator = s
}

// Each metric of ours has a line in docs/metrics.md, and the other way round.
func TestMetricsPage(t *testing.T) {
	page, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{Data: filepath.Join(t.TempDir(), "data"), Limits: limitSettings{Event: 1 << 18}}
	s.Access.Hook.URL = "http://127.0.0.1:6543/whoami" // has metrics of its own
	srv, err := build(t.Context(), s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.close()
	described := make(chan *prometheus.Desc, 1000)
	srv.registry.Describe(described)
	close(described)
	ours := map[string]bool{}
	name := regexp.MustCompile(`fqName: "(chappe_[a-z_]+)"`)
	for d := range described {
		if m := name.FindStringSubmatch(d.String()); m != nil {
			ours[m[1]] = true
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/metrics.md lacks %s", m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`(chappe_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !ours[m[1]] {
			t.Errorf("docs/metrics.md has %s, which there is not", m[1])
		}
	}
}
