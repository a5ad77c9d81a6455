// Package config decodes the YAML file into the struct that main composes of
// each package's own. It is strict: an unknown key, a value of the wrong kind
// or one that a Validate method refuses stops the start, with the file, line,
// key path, reason and remedy of each such place.
//
// A field is decoded by its yaml tag. Types that implement
// encoding.TextUnmarshaler parse themselves, time.Duration is written 45s or
// 720h or 30d. A field tagged path:"file" is relative to the file's folder; one
// tagged path:"input" too, and must be there to be read.
package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxBytes bounds the file.
const maxBytes = 4 << 20

// Problem is one thing that is wrong in the file.
type Problem struct {
	File   string
	Line   int
	Key    string // the path: "watches[2].topic"
	Reason string // with the remedy
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Key, p.Reason)
}

// Validator is implemented by config structs that can contradict themselves.
// The error's text is a sentence that begins with the key, or says it all.
type Validator interface{ Validate() error }

// Load decodes the file into v, a pointer to a struct with the defaults. The
// error joins a *Problem for each place.
func Load(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if len(text) > maxBytes {
		return fmt.Errorf("%s has %d bytes, a configuration at most %d", path, len(text), maxBytes)
	}
	var doc, more yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(text))
	err = documents.Decode(&doc)
	if err == nil {
		err = documents.Decode(&more)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is not YAML: %s; check the indentation and quotes there", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	d := decoder{file: path, dir: filepath.Dir(path)}
	if err == nil {
		d.fail(&more, "", "a second document begins, which would not be read; remove the --- before it")
	}
	if len(doc.Content) > 0 { // not empty
		d.value(doc.Content[0], reflect.ValueOf(v).Elem(), "", "")
	}
	return errors.Join(d.problems...)
}

type decoder struct {
	file, dir string
	problems  []error
}

func (d *decoder) fail(n *yaml.Node, key, format string, args ...any) {
	if key == "" {
		key = "the file"
	}
	d.problems = append(d.problems, &Problem{d.file, n.Line, key, fmt.Sprintf(format, args...)})
}

// value decodes one node. path is the tag of a string that names a file.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key string, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Tag == "!!null" {
		return // the default stays
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, text, key)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, key)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), key, path)
	case reflect.Slice:
		d.list(n, v, key, path)
	default:
		d.scalar(n, v, key, path)
	}
}

func (d *decoder) text(n *yaml.Node, v encoding.TextUnmarshaler, key string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, key, "it is %s; write a single value", kindOf(n))
		return
	}
	if err := v.UnmarshalText([]byte(n.Value)); err != nil {
		d.fail(n, key, "%v", err)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, key, "it is %s; write keys with values, like %s", kindOf(n), strings.Join(names(v.Type()), ", "))
		return
	}
	before := len(d.problems)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		child := join(key, name.Value)
		field, path, ok := find(v, name.Value)
		switch {
		case !ok:
			d.fail(name, child, "there is no such key; %s", suggest(name.Value, names(v.Type())))
		case seen[name.Value]:
			d.fail(name, child, "it stands here twice; keep one")
		default:
			d.value(value, field, child, path)
		}
		seen[name.Value] = true
	}
	if validator, ok := v.Addr().Interface().(Validator); ok && len(d.problems) == before {
		if err := validator.Validate(); err != nil {
			d.fail(n, key, "%v", err)
		}
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, key string, path string) {
	if n.Kind == yaml.ScalarNode && isSingle(v.Type().Elem()) { // a list of one
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.value(n, v.Index(0), key, path)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, key, "it is %s; write a list, like [a, b]", kindOf(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), key+"["+strconv.Itoa(i)+"]", path)
	}
}

// isSingle reports whether values of the type are written as single ones.
func isSingle(t reflect.Type) bool {
	return t.Kind() != reflect.Struct && t.Kind() != reflect.Slice || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, key string, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, key, "it is %s; write a single value", kindOf(n))
		return
	}
	switch v.Interface().(type) {
	case string:
		d.string(n, v, key, path)
	case bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || n.Tag != "!!bool" {
			d.fail(n, key, "%q is neither true nor false", n.Value)
		}
		v.SetBool(b)
	case time.Duration:
		t, err := parseDuration(n.Value)
		if err != nil {
			d.fail(n, key, "%q is not a duration; write one like 45s, 15m, 720h or 30d", n.Value)
		}
		v.SetInt(int64(t))
	case int, int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil {
			d.fail(n, key, "%q is not a whole number", n.Value)
		}
		v.SetInt(i)
	default:
		panic("config: no rule for a field of type " + v.Type().String())
	}
}

func (d *decoder) string(n *yaml.Node, v reflect.Value, key, path string) {
	s := n.Value
	if path != "" && s != "" && !filepath.IsAbs(s) && !strings.Contains(s, "://") {
		s = filepath.Join(d.dir, s)
	}
	if path == "input" && s != "" {
		f, err := os.Open(s)
		if err != nil {
			d.fail(n, key, "%v; make the file, or correct its name", err)
		} else {
			_ = f.Close() // only read
		}
	}
	v.SetString(s)
}

// parseDuration is time.ParseDuration with days, as "30d".
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(s)
}

// find is the field with that key, embedded ("inline") structs included.
func find(v reflect.Value, name string) (field reflect.Value, path string, ok bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			if field, path, ok := find(v.Field(i), name); ok {
				return field, path, true
			}
		} else if tag == name && tag != "" {
			return v.Field(i), f.Tag.Get("path"), true
		}
	}
	return reflect.Value{}, "", false
}

func names(t reflect.Type) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			all = append(all, names(f.Type)...)
		} else if tag != "" {
			all = append(all, tag)
		}
	}
	return all
}

// suggest names the key that was probably meant, or all there are.
func suggest(name string, known []string) string {
	for _, k := range known {
		if distance(name, k) <= 1+len(k)/4 {
			return fmt.Sprintf("did you mean %s?", k)
		}
	}
	return "here stand " + strings.Join(known, ", ")
}

// distance is the number of letters to add, drop or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func kindOf(n *yaml.Node) string {
	return map[yaml.Kind]string{yaml.MappingNode: "keys with values", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}[n.Kind]
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
