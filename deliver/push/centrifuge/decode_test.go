package centrifuge

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"{}", "", "{}\n{}", `{"id":1,"connect":{"token":"t","subs":{"a":{"recover":true,"offset":1,"epoch":"e"}}}}`,
		`{"id":2,"subscribe":{"channel":"a","recover":true,"offset":18446744073709551615,"flag":1}}`,
		`{"id":3,"history":{"channel":"a","limit":-1,"since":{"offset":1,"epoch":"e"},"reverse":true}}`,
		`{"id":4,"publish":{"channel":"a","data":{"a":[1]}}}`, `{"id":-1}`, "null", "[]", "\n\n", "{\"id\":1}\r\n{\"id\":2}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		commands, err := decode(message)
		if err != nil && commands != nil {
			t.Errorf("%d commands beside %v", len(commands), err)
		}
		if n := len(commands); n > maxCommands || n > bytes.Count(message, []byte("{")) {
			t.Errorf("%d commands of %q", n, message)
		}
		for _, c := range commands {
			if c.Publish != nil && len(c.Publish.Data) > len(message) {
				t.Errorf("data of %d bytes in a message of %d", len(c.Publish.Data), len(message))
			}
		}
	})
}

func TestDecodeBounds(t *testing.T) {
	if _, err := decode([]byte(strings.Repeat("{}\n", maxCommands))); err != nil {
		t.Errorf("%d commands: %v", maxCommands, err)
	}
	if _, err := decode([]byte(strings.Repeat("{}\n", maxCommands+1))); err == nil {
		t.Errorf("%d commands were taken", maxCommands+1)
	}
	if _, err := decode([]byte(strings.Repeat(`{"id":`, 20_000))); err == nil {
		t.Error("nested without end was taken")
	}
}
