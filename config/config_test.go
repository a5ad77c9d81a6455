package config_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chappe/chappe/config"
)

// settings has a field of each sort.
type settings struct {
	Server  server         `yaml:"server"`
	Data    string         `yaml:"data" path:"file"`
	Keys    []string       `yaml:"keys" path:"file"`
	Allow   []netip.Prefix `yaml:"allow"`
	Watches []watch        `yaml:"watches"`
	Proxy   *server        `yaml:"proxy"`
	Hidden  string         // without a key
}

type server struct {
	Listen string `yaml:"listen"`
	limits `yaml:",inline"`
}

type limits struct {
	Sessions int           `yaml:"sessions"`
	Bytes    int64         `yaml:"bytes"`
	Idle     time.Duration `yaml:"idle"`
	Strict   bool          `yaml:"strict"`
}

type watch struct {
	Name  string `yaml:"name"`
	Topic string `yaml:"topic"`
}

func (w watch) Validate() error {
	if w.Topic == "" {
		return errors.New("topic is missing; say where its events go")
	}
	return nil
}

func (s settings) Validate() error {
	if s.Data == "/" {
		return errors.New("data: the root is no data folder; name another")
	}
	return nil
}

// write makes a configuration file of its own folder.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chappe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, `
server: {listen: "127.0.0.1:0", sessions: 5, bytes: 6000000000, idle: 30d, strict: true}
data: store
keys: [a.pem, /etc/b.pem, "https://example.com/jwks"]
allow: [10.0.0.0/8, "fd00::/8"]
watches:
  - &one {name: one, topic: feeds/one}
  - *one
proxy: {idle: 90s}
`)
	dir := filepath.Dir(path)
	got := settings{Hidden: "kept"}
	if err := config.Load(path, &got); err != nil {
		t.Fatal(err)
	}
	want := settings{
		Server:  server{Listen: "127.0.0.1:0", limits: limits{Sessions: 5, Bytes: 6_000_000_000, Idle: 30 * 24 * time.Hour, Strict: true}},
		Data:    filepath.Join(dir, "store"),
		Keys:    []string{filepath.Join(dir, "a.pem"), "/etc/b.pem", "https://example.com/jwks"},
		Allow:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		Watches: []watch{{"one", "feeds/one"}, {"one", "feeds/one"}},
		Proxy:   &server{limits: limits{Idle: 90 * time.Second}},
		Hidden:  "kept",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(server{}), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestListOfOne(t *testing.T) {
	path := write(t, "keys: a.pem\nallow: 10.0.0.0/8\n")
	var got settings
	if err := config.Load(path, &got); err != nil || len(got.Keys) != 1 || got.Keys[0] != filepath.Join(filepath.Dir(path), "a.pem") || len(got.Allow) != 1 {
		t.Errorf("Load = %+v, %v, want lists of one", got, err)
	}
}

func TestDefaultsStay(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "server:\ndata: ~\n", "server: {sessions: }\n"} {
		got := settings{Server: server{limits: limits{Sessions: 7}}, Data: "d"}
		if err := config.Load(write(t, text), &got); err != nil || got.Server.Sessions != 7 || got.Data != "d" {
			t.Errorf("Load(%q) = %+v, %v, want the defaults", text, got, err)
		}
	}
}

// TestProblems holds that each thing that is wrong is told with its line, key
// path, reason and remedy.
func TestProblems(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // "line: key: reason"
	}{
		{"unknown key", "server:\n  lisen: x\n", []string{"2: server.lisen: there is no such key; did you mean listen?"}},
		{"unknown inline key", "server:\n  listen: x\n  sesions: 1\n", []string{"3: server.sesions: there is no such key; did you mean sessions?"}},
		{"unlike any key", "colour: red\n", []string{"1: colour: there is no such key; here stand server, data, keys, allow, watches, proxy"}},
		{"key of no field", "hidden: x\n", []string{"1: hidden: there is no such key; here stand server"}},
		{"twice", "data: a\ndata: b\n", []string{"2: data: it stands here twice; keep one"}},
		{"list for a value", "data: [a]\n", []string{"1: data: it is a list; write a single value"}},
		{"keys for a value", "data: {a: b}\n", []string{"1: data: it is keys with values; write a single value"}},
		{"value for a list of keys", "watches: a\n", []string{"1: watches: it is a single value; write a list, like [a, b]"}},
		{"bad value for a list of one", "allow: here\n", []string{"1: allow: netip.ParsePrefix"}},
		{"value for keys", "server: x\n", []string{"1: server: it is a single value; write keys with values, like listen, sessions, bytes, idle, strict"}},
		{"list for the file", "- a\n", []string{"1: the file: it is a list; write keys with values, like server"}},
		{"no number", "server: {sessions: many}\n", []string{`1: server.sessions: "many" is not a whole number`}},
		{"fraction", "server: {bytes: 1.5}\n", []string{`1: server.bytes: "1.5" is not a whole number`}},
		{"no truth", "server: {strict: 1}\n", []string{`1: server.strict: "1" is neither true nor false`}},
		{"quoted truth", "server: {strict: 'true'}\n", []string{`1: server.strict: "true" is neither true nor false`}},
		{"duration without unit", "server:\n  idle: 90\n", []string{`2: server.idle: "90" is not a duration; write one like 45s, 15m, 720h or 30d`}},
		{"days below zero", "server: {idle: -3d}\n", []string{`1: server.idle: "-3d" is not a duration`}},
		{"too many days", "server: {idle: 999999999d}\n", []string{`1: server.idle: "999999999d" is not a duration`}},
		{"in a list", "allow:\n  - 10.0.0.0/8\n  - here\n", []string{"3: allow[1]: netip.ParsePrefix"}},
		{"list in a list", "allow: [[]]\n", []string{"1: allow[0]: it is a list; write a single value"}},
		{"contradiction in a list", "watches:\n  - {name: a, topic: b}\n  - name: c\n", []string{"3: watches[1]: topic is missing; say where its events go"}},
		{"contradiction of the whole", "data: /\n", []string{"1: the file: data: the root is no data folder; name another"}},
		{"behind a pointer", "proxy: {idle: x}\n", []string{`1: proxy.idle: "x" is not a duration`}},
		{"behind an alias", "watches: [&a {name: x, topic: [y]}, *a]\n", []string{"1: watches[0].topic: it is a list", "1: watches[1].topic: it is a list"}},
		{"second document", "data: a\n---\nserver: {}\n", []string{"2: the file: a second document begins, which would not be read; remove the --- before it"}},
		{"several", "dat: a\nserver:\n  idle: x\n  sessions: y\n", []string{"1: dat: there is no such key; did you mean data?", "3: server.idle: ", "4: server.sessions: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			err := config.Load(path, &settings{})
			if err == nil {
				t.Fatal("Load returned no error")
			}
			if _, ok := errors.AsType[*config.Problem](err); !ok {
				t.Errorf("%v is not a Problem", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				if want = fmt.Sprintf("%s:%s", path, want); !strings.HasPrefix(lines[i], want) {
					t.Errorf("problem %d is\n%s\nwant\n%s", i, lines[i], want)
				}
			}
		})
	}
}

func TestNotYAML(t *testing.T) {
	for _, text := range []string{"server:\n  listen: 'x\n", "data: a\n\tb: c\n", "data: *nothing\n", "data: a\n---\nb: ]\n", "\x00"} {
		path := write(t, text)
		err := config.Load(path, &settings{})
		if err == nil || !strings.HasPrefix(err.Error(), path+" is not YAML: ") || !strings.Contains(err.Error(), "check the indentation") {
			t.Errorf("Load(%q): %v, want that it is not YAML, with a remedy", text, err)
		}
	}
	if err := config.Load(write(t, "data: a\nserver: [\n"), &settings{}); err == nil || !strings.Contains(err.Error(), "line ") {
		t.Errorf("%v, want the line", err)
	}
}

func TestMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	if err := config.Load(path, &settings{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want that %s does not exist", err, path)
	}
}

func TestTooLarge(t *testing.T) {
	err := config.Load(write(t, "# "+strings.Repeat("x", 4<<20)), &settings{})
	if err == nil || !strings.Contains(err.Error(), "at most 4194304") {
		t.Errorf("%v, want the bound", err)
	}
}

// TestRejectedValidateIsNotRun holds that a struct that could not be read is
// not judged besides: the missing topic comes of the first mistake.
func TestRejectedValidateIsNotRun(t *testing.T) {
	err := config.Load(write(t, "watches: [{name: a, topc: b}]\n"), &settings{})
	if err == nil || strings.Contains(err.Error(), "missing") || !strings.Contains(err.Error(), "did you mean topic?") {
		t.Errorf("%v, want the misspelt key alone", err)
	}
}
