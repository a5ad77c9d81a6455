package ws_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/ws"
)

func TestAppendFrame(t *testing.T) {
	for _, test := range []struct {
		op     ws.Op
		length int
		head   string
	}{
		{ws.OpText, 0, "81 00"},
		{ws.OpBinary, 125, "82 7d"},
		{ws.OpText, 126, "81 7e 00 7e"},
		{ws.OpText, 65535, "81 7e ff ff"},
		{ws.OpText, 65536, "81 7f 00 00 00 00 00 01 00 00"},
		{ws.OpPing, 3, "89 03"},
		{ws.OpPong, 125, "8a 7d"},
	} {
		if got := fmt.Sprintf("% x", ws.AppendHeader(nil, test.op, test.length)); got != test.head {
			t.Errorf("AppendHeader(%d, %d) = %s, want %s", test.op, test.length, got, test.head)
		}
		payload := bytes.Repeat([]byte("x"), test.length)
		got, compressed := parse(t, ws.AppendFrame(nil, test.op, payload), test.op)
		if compressed || !bytes.Equal(got, payload) {
			t.Errorf("AppendFrame of %d bytes: %.20q, compressed: %t", test.length, got, compressed)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, test := range []struct {
		code         uint16
		reason, want string
	}{
		{0, "not sent", "\x88\x00"},
		{1000, "", "\x88\x02\x03\xe8"},
		{1001, "retry=5", "\x88\x09\x03\xe9retry=5"},
		{1000, strings.Repeat("x", 123), "\x88\x7d\x03\xe8" + strings.Repeat("x", 123)},
		{1000, strings.Repeat("x", 124), "\x88\x7d\x03\xe8" + strings.Repeat("x", 123)},
		{1000, strings.Repeat("x", 122) + "é", "\x88\x7c\x03\xe8" + strings.Repeat("x", 122)},
		{1000, strings.Repeat("x", 121) + "é", "\x88\x7d\x03\xe8" + strings.Repeat("x", 121) + "é"},
		{1000, strings.Repeat("𐍈", 40), "\x88\x7a\x03\xe8" + strings.Repeat("𐍈", 30)},
	} {
		got := string(ws.AppendClose([]byte("ab"), test.code, test.reason))
		if got != "ab"+test.want {
			t.Errorf("AppendClose(%d, %q) = %q, want %q", test.code, test.reason, got, test.want)
		}
	}
}
