package wstest

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// scripted is a server that sends the same, whatever it reads.
func scripted(conn net.Conn, sends string) {
	defer conn.Close()
	_, _ = conn.Read(make([]byte, 1))
	_, _ = io.WriteString(conn, sends)
}

func TestRunFaultyServers(t *testing.T) {
	cases := map[string]Case{}
	for _, c := range Cases() {
		cases[c.Name] = c
	}
	for _, test := range []struct{ name, sends, want string }{
		{"2.5", "\x88\x02\x03\xea", ""},
		{"2.5", "\x88\x02\x03\xe8", "closed with 1000"},
		{"2.5", "\x88\x00", "closed with 1005"},
		{"2.5", "", "no close frame"},
		{"2.5", "\x8a\x00\x88\x02\x03\xea", "want [ ]"},
		{"2.5", "\x88\x02\x03\xea\x8a\x00", "no close frame at the end"},
		{"2.5", "\x88\x82\x00\x00\x00\x00\x03\xea", "breaks RFC 6455"},
		{"2.5", "\x88\x02\x03\xea\xff\xff", "breaks RFC 6455"},
		{"2.5", "\x81\x7e\x00\x05hello\x88\x02\x03\xea", "its length is 5"},
		{"3.2", "\x81\x0dHello, world!\x88\x02\x03\xea", ""},
		{"3.2", "\x81\x0dHello, World!\x88\x02\x03\xea", "want [ 1:\"Hello, world!\"(13) ]"},
		{"3.2", "\x88\x02\x03\xea", "non-strict"},
		{"6.4.1", "\x88\x02\x03\xef", "before it could know"},
		{"7.1.6", "\x88\x02\x03\xf1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, server := net.Pipe()
			var served sync.WaitGroup
			served.Go(func() { scripted(server, test.sends) })
			err := cases[test.name].Run(client)
			served.Wait()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Run with a server that sends %q: %v", test.sends, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Run with a server that sends %q: %v, want %q", test.sends, err, test.want)
			}
			if got := errors.Is(err, ErrNonStrict); got != (test.want == "non-strict") {
				t.Errorf("is ErrNonStrict: %t", got)
			}
		})
	}
}

// TestRunSlowServer: the fault is told with the last of three writes.
func TestRunSlowServer(t *testing.T) {
	for _, c := range Cases() {
		if c.Name != "6.4.4" {
			continue
		}
		client, server := net.Pipe()
		var served sync.WaitGroup
		served.Go(func() {
			defer server.Close()
			_, _ = io.ReadFull(server, make([]byte, 6+21))
			_, _ = io.WriteString(server, "\x88\x02\x03\xef")
		})
		if err := c.Run(client); !errors.Is(err, ErrNonStrict) {
			t.Errorf("Run: %v, want ErrNonStrict", err)
		}
		served.Wait()
	}
}
